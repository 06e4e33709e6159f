"""Pretraining of an image network without labels, by BYOL or SimCLR, on one or several sets.

``dvc repro pretrain@byol`` writes ``data/models/byol/``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from carryover import run
from carryover.config.selfsupervised import Byol, SelfSupervised, SimClr
from carryover.data import store, transforms, views
from carryover.errors import DataError, pick
from carryover.files import digest
from carryover.models import saved, selfsupervised
from carryover.models.preprocess import Preprocess, from_card
from carryover.parallel import keep_freed_memory
from carryover.pretrain import byol, simclr
from carryover.pretrain.contrastive import schedule
from carryover.scratch import Scratch
from carryover.solve.neighbours import neighbours, votes
from carryover.train import Budget, fit, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params

MEAN, STD = (0.5,) * 3, (0.5,) * 3  # pixels to -1..1
PASS_ROWS = 1024  # images a forward pass where nothing is trained
MOMENTUM = 0.9  # of stochastic gradient descent: Grill et al. 2020, Chen et al. 2020
K, TEMPERATURE = 20, 0.07  # of the neighbours' vote: Caron et al. 2021, section 4.1


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """Training images of one or several sets at one size.

    Attributes:
        labels: class ids, those of each set counted on from the last of the set before.
    """

    pixels: UInt8[Tensor, "n 3 h w"]
    labels: Int64[Tensor, " n"]
    digest: str

    def select(self, rows: Int64[Tensor, " _"]) -> Corpus:
        return Corpus(self.pixels[rows], self.labels[rows], self.digest)


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train the network described by ``pretrain.<item>``, save it."""
    recipe = pick(params.pretrain, item, "pretrain")
    assert isinstance(recipe, SelfSupervised)
    torch.set_num_threads(recipe.threads)
    keep_freed_memory()
    device = run.device(run.chosen_device())
    corpus = joined([Path("data/sets") / name for name in recipe.sets], recipe.network.size)
    order = torch.randperm(
        len(corpus.labels), generator=run.generator(params.seed, f"pretrain/{item}/validation")
    )
    held = corpus.select(order[: recipe.validation_images])
    trained = corpus.select(order[recipe.validation_images :].sort().values)
    expect_whole_batches(len(trained.labels), recipe.batch_size, item)
    card = describe(recipe)
    random = run.generator(params.seed, f"pretrain/{item}")
    network = new(recipe, card, random).to(device)
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
        network, trained.pixels.to(device), recipe, random, scratch.folder / "training.pt", item
    )
    card |= {
        "name": item,
        "objective": recipe.objective,
        "datasets": recipe.sets,
        "data": corpus.digest,
        "params": context.params,
        "source": context.source,
        "updates": updates,
        "neighbours_accuracy": neighbours_accuracy(network.encoder, card, trained, held),
    }
    context.refuse_edited()
    saved.save(Path("data/models") / item, network.encoder, card)
    scratch.clear()


def joined(folders: list[Path], size: int) -> Corpus:
    """The training images of several sets, one after the other, RGB, cropped to `size` px."""
    pixels, labels, digests, classes = [], [], [], 0
    for folder in folders:
        images = store.load(folder, "train")
        parts = torch.arange(len(images)).split(PASS_ROWS)
        pixels += [
            (transforms.to_rgb(images.floats(part, size)) * 255).round().byte() for part in parts
        ]
        labels.append(images.labels + classes)
        digests.append(images.digest)
        classes += len(images.class_names)
    every = digests[0] if len(digests) == 1 else digest(digests)
    return Corpus(torch.cat(pixels), torch.cat(labels), every)


def expect_whole_batches(images: int, batch_size: int, item: str) -> None:
    """Refuse a last batch of one image, over which no batch norm can be taken.

    Raises:
        DataError: too few images, or one is left over.
    """
    if images < 2 or images % batch_size == 1:
        raise DataError(
            f"pretrain.{item}.batch_size: expected batches of at least 2 images, got {images} "
            f"images in batches of {batch_size}; take another batch_size or validation_images"
        )


def describe(recipe: SelfSupervised) -> dict[str, Any]:
    """The part of a card that a network is built from."""
    network = recipe.network
    form: dict[str, Any] = {"architecture": network.architecture, "width": network.width}
    if network.architecture != "resnet18":  # which is of any size
        form["size"] = network.size
    form |= {"form": network.form} if network.form else {}
    form |= dataclasses.asdict(network.attention) if network.attention else {}
    return {
        "image_network": form,
        "preprocess": dataclasses.asdict(Preprocess(network.size, "crop", "bilinear", MEAN, STD)),
    }


def new(recipe: SelfSupervised, card: dict[str, Any], random: torch.Generator) -> Any:
    """A network with new weights, drawn from `random`; torch's own stream is left as it was."""
    seed = int(torch.randint(2**62, (1,), generator=random))
    heads = dataclasses.asdict(recipe.projection)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, width = selfsupervised.build(card)
        encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if isinstance(recipe, Byol):
            return byol.Byol(
                encoder,
                width,
                **heads,
                prediction=recipe.prediction,
                momentum=recipe.momentum,
            )
        assert isinstance(recipe, SimClr)
        return simclr.SimClr(encoder, width, **heads, temperature=recipe.temperature)


def train(
    network: Any,
    pixels: UInt8[Tensor, "n 3 h w"],
    recipe: SelfSupervised,
    random: torch.Generator,
    snapshot: Path | None,
    name: str,
) -> int:
    """Train a network in place on two new views of each image; returns the updates done."""
    chosen = views.Views(**dataclasses.asdict(recipe.views))

    def loss(network: nn.Module, x: UInt8[Tensor, "b ..."], rows: Tensor) -> Float[Tensor, ""]:
        a, b = (
            transforms.normalise(views.view(x.float() / 255, chosen, random), MEAN, STD)
            for _ in range(2)
        )
        with in_precision(x.device, recipe.precision):
            value: Tensor = network(
                a.contiguous(memory_format=torch.channels_last),
                b.contiguous(memory_format=torch.channels_last),
            )
        return value

    optimiser = OPTIMISERS[recipe.optimiser](groups(network, recipe.weight_decay), recipe.lr)
    total = recipe.epochs * math.ceil(len(pixels) / recipe.batch_size)
    total = min(total, recipe.max_updates or total)
    rate = schedule(recipe.lr, recipe.warm_up, total)

    with run.progress(f"pretrain@{name}", total) as advance:
        told = 0

        def after_step(updates: int) -> None:
            nonlocal told
            network.after_step_(updates / total)
            for group in optimiser.param_groups:
                group["lr"] = rate(updates)
            for _ in range(updates - told):
                advance()
            told = updates

        for group in optimiser.param_groups:
            group["lr"] = rate(0)
        outcome = fit(
            network,
            pixels,
            torch.arange(len(pixels), device=pixels.device),
            optimiser,
            Budget(recipe.batch_size, recipe.epochs, recipe.max_updates, 0, 0, "on_stop"),
            random,
            loss=loss,
            after_step=after_step,
            snapshot=snapshot,
        )
    return outcome.updates


def groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices alone, and nothing for what does not train."""
    every = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in every if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in every if p.ndim < 2], "weight_decay": 0.0},
    ]


def neighbours_accuracy(
    encoder: nn.Module, card: dict[str, Any], bank: Corpus, held: Corpus
) -> dict[str, Any]:
    """How often the nearest images of the corpus vote for the class of an image held out.

    The vote is weighted by exp(cosine / 0.07), among 20 neighbours (fewer where there are fewer).
    """
    k = min(K, len(bank.labels))
    queries, rows = (embeddings(encoder, card, part) for part in (held, bank))
    found = neighbours(queries, rows, k, "cosine")
    classes = int(torch.cat([bank.labels, held.labels]).max()) + 1
    right = votes(found, bank.labels, classes, TEMPERATURE).argmax(1) == held.labels
    return {"value": float(right.double().mean()), "n": len(right), "k": k}


def embeddings(encoder: nn.Module, card: dict[str, Any], images: Corpus) -> Float[Tensor, "n d"]:
    """What the network gives for whole images, on the CPU; it is left in evaluation mode."""
    preprocess = from_card(card["preprocess"])
    device = next(encoder.parameters()).device
    encoder.eval()
    with torch.inference_mode():
        return torch.cat(
            [
                encoder(preprocess(part.float().to(device) / 255)).float().cpu()
                for part in images.pixels.split(PASS_ROWS)
            ]
        )


Groups = list[dict[str, Any]]
OPTIMISERS: dict[str, Callable[[Groups, float], torch.optim.Optimizer]] = {
    "adam": lambda groups, lr: torch.optim.AdamW(groups, lr=lr, fused=True),
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=MOMENTUM),
}
