"""Contrastive pretraining of a small CLIP or FLAVA on images with sentences.

``dvc repro pretrain@clip-nano`` writes ``data/models/clip-nano/``. The mini preset's 1,197 updates
take 0.24 s each on one core and 1.5 GB.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from carryover import run
from carryover.config.contrastive import Contrastive
from carryover.errors import pick
from carryover.models import nano, saved
from carryover.parallel import keep_freed_memory
from carryover.pretrain import networks, pairs
from carryover.scratch import Scratch
from carryover.train import Budget, fit, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params

BETAS, EPSILON = (0.9, 0.98), 1e-6  # of CLIP's image transformers, Radford et al. 2021, table 19
SCALE_LIMIT = math.log(100)  # the logit scale is kept below 100, as there


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train the network described by ``pretrain.<item>``, save it."""
    recipe = pick(params.pretrain, item, "pretrain")
    assert isinstance(recipe, Contrastive)
    torch.set_num_threads(recipe.threads)
    keep_freed_memory()
    device = run.device(run.chosen_device())
    corpus, held = pairs.load(recipe, item, params.seed)
    card = networks.describe(recipe, corpus.sentences)
    random = run.generator(params.seed, f"pretrain/{item}")
    network = networks.new(card, random).to(device)
    scratch = Scratch(
        context.stage,
        {
            "params": context.params,
            "source": context.source,
            "data": corpus.digest,
            "torch": torch.__version__,
            "device": device.type,
        },
    )
    updates = train(
        network,
        pairs.inputs(corpus, card, device),
        nano.tokenizer(card)(corpus.sentences).to(device),
        recipe,
        random,
        scratch.folder / "training.pt",
        item,
    )
    card |= {
        "name": item,
        "datasets": recipe.sets,
        "images": len(corpus),
        "data": corpus.digest,
        "params": context.params,
        "source": context.source,
        "updates": updates,
        "validation_loss": validation_loss(network, card, held, recipe, random),
    }
    context.refuse_edited()
    saved.save(Path("data/models") / item, network, card)
    scratch.clear()


def train(
    network: nn.Module,
    images: Float[Tensor, "n c h w"],
    tokens: Int64[Tensor, "n length"],
    recipe: Contrastive,
    random: torch.Generator,
    snapshot: Path | None,
    name: str,
) -> int:
    """Train a network in place on image-sentence pairs; returns the updates done."""

    def loss(
        network: nn.Module, x: Float[Tensor, "b ..."], rows: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        return pair_loss(network, x, tokens[rows], recipe.precision)

    optimiser = torch.optim.AdamW(
        _groups(network, recipe.weight_decay), lr=recipe.lr, betas=BETAS, eps=EPSILON, fused=True
    )
    total = recipe.epochs * math.ceil(len(images) / recipe.batch_size)
    rate = schedule(recipe.lr, recipe.warm_up, total)
    budget = Budget(recipe.batch_size, recipe.epochs, 0, 0, 0, "on_stop")

    def set_rate(updates: int) -> None:
        for group in optimiser.param_groups:
            group["lr"] = rate(updates)

    with run.progress(f"pretrain@{name}", total) as advance:
        told = 0

        def after_step(updates: int) -> None:
            nonlocal told
            with torch.no_grad():
                network.get_parameter("logit_scale").clamp_(0, SCALE_LIMIT)
            set_rate(updates)
            for _ in range(updates - told):
                advance()
            told = updates

        set_rate(0)
        outcome = fit(
            network,
            images,
            torch.arange(len(images), device=images.device),
            optimiser,
            budget,
            random,
            loss=loss,
            after_step=after_step,
            snapshot=snapshot,
        )
    return outcome.updates


def pair_loss(
    network: nn.Module,
    images: Float[Tensor, "b c h w"],
    tokens: Int64[Tensor, "b length"],
    precision: str,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of finding a batch's sentences by its images and back.

    Source: Radford et al. 2021, figure 3.
    """
    from open_clip.loss import ClipLoss

    with in_precision(images.device, precision):
        out = network(images, tokens)
    image, text = out["image_features"].float(), out["text_features"].float()
    value: Tensor = ClipLoss()(image, text, out["logit_scale"])
    return value


def _groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices alone: not for biases, norms and the logit scale."""
    every = list(network.parameters())
    return [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]


def schedule(lr: float, warm_up: int, total: int) -> Callable[[int], float]:
    """Learning rate after so many updates: a line up over `warm_up`, then half a cosine to 0."""

    def rate(updates: int) -> float:
        if updates < warm_up:
            return lr * (updates + 1) / warm_up
        done = (updates - warm_up) / max(1, total - warm_up)
        return lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return rate


def validation_loss(
    network: nn.Module,
    card: dict[str, Any],
    held: pairs.Pairs,
    recipe: Contrastive,
    random: torch.Generator,
) -> dict[str, Any]:
    """Mean loss of pairs not trained on, in whole batches as in training, and their number."""
    device = next(network.parameters()).device
    x, tokens = pairs.inputs(held, card, device), nano.tokenizer(card)(held.sentences)
    size = min(recipe.batch_size, len(held))
    batches = torch.randperm(len(held), generator=random)[: len(held) // size * size]
    with torch.inference_mode():
        losses = [
            pair_loss(network, x[rows.to(device)], tokens[rows].to(device), recipe.precision)
            for rows in batches.split(size)
        ]
    return {"value": float(torch.stack(losses).mean()), "n": len(batches)}
