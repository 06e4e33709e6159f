"""Supervised pretraining of a small CNN on the source classes of a data set.

``dvc repro pretrain@cnn6-digits-0-4`` writes ``data/models/cnn6-digits-0-4/``. The mini preset's
takes 10 s and 0.5 GB on two cores.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover import run
from carryover.config.networks import Pretrain
from carryover.data import splits, store, transforms
from carryover.data.images import Images
from carryover.errors import pick
from carryover.measure.accuracy import correct
from carryover.models import saved
from carryover.models.cnn import cnn
from carryover.parallel import keep_freed_memory
from carryover.scratch import Scratch
from carryover.train import Budget, fit

if TYPE_CHECKING:
    from carryover.config.params import Params

MEAN, STD = (0.5,), (0.5,)  # pixels to -1..1, as the reference study has it
PASS_ROWS = 512  # images a forward pass: a batch of 4096 would take 9 GB at once


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train the network described by ``pretrain.<item>`` and save it with its accuracies."""
    recipe = pick(params.pretrain, item, "pretrain")
    assert isinstance(recipe, Pretrain)
    torch.set_num_threads(recipe.threads)
    keep_freed_memory()
    device = run.device(run.chosen_device())
    folder = Path("data/sets") / recipe.dataset
    where = f"pretrain.{item}.classes"
    train = store.load(folder, "train").of_classes(recipe.classes, where)
    test = store.load(folder, "test").of_classes(recipe.classes, where)
    kept, held = splits.hold_out(
        train.labels,
        recipe.validation_fraction,
        validation_generator(params.seed, recipe.validation_seed, "pretrain/validation"),
        recipe.stratified_validation,
    )
    splits.expect_some(held, f"pretrain.{item}.validation_fraction")
    parts = {"train": train.select(kept), "validation": train.select(held), "test": test}
    inputs = {name: normalised(part, device) for name, part in parts.items()}
    labels = {name: part.labels.to(device) for name, part in parts.items()}

    random = run.generator(params.seed, f"pretrain/{item}")
    shape = tuple(inputs["train"].shape[1:])
    network = build(recipe, shape, random)
    network = channels_last(network.to(device))
    scratch = Scratch(
        context.stage,
        {
            "params": context.params,
            "source": context.source,
            "data": train.digest,
            "torch": torch.__version__,
            "device": device.type,
        },
    )

    def validate() -> float:
        return accuracy("validation")

    def accuracy(split: str) -> float:
        return correct(network, inputs[split], labels[split]) / len(labels[split])

    outcome = fit(
        network,
        inputs["train"],
        labels["train"],
        torch.optim.Adam(network.parameters(), lr=recipe.lr, fused=True),
        budget(recipe),
        random,
        validate=validate,
        snapshot=scratch.folder / "training.pt",
        pass_rows=PASS_ROWS,
    )
    card = {
        "name": item,
        "network": dataclasses.asdict(recipe.network),
        "image_shape": shape,
        "dataset": recipe.dataset,
        "classes": sorted(recipe.classes),
        "data": train.digest,
        "params": context.params,
        "source": context.source,
        "updates": outcome.updates,
        "accuracy": {
            split: {"value": accuracy(split), "n": len(part)} for split, part in parts.items()
        },
    }
    context.refuse_edited()
    saved.save(Path("data/models") / item, network, card)
    scratch.clear()


def normalised(images: Images, device: torch.device) -> Float[Tensor, "n c h w"]:
    """All images of a split on the device, pixels in -1..1."""
    return transforms.normalise(images.floats(torch.arange(len(images))), MEAN, STD).to(device)


def channels_last(network: nn.Sequential) -> nn.Sequential:
    """The network with its weights laid out channels last, for faster convolutions."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def build(recipe: Pretrain, image_shape: tuple[int, ...], random: torch.Generator) -> nn.Sequential:
    """The recipe's network with new weights."""
    shape: Any = image_shape
    return cnn(
        **dataclasses.asdict(recipe.network),
        image_shape=shape,
        classes=len(recipe.classes),
        generator=random,
    )


def load(folder: Path, card: dict[str, Any]) -> nn.Sequential:
    """The network that `stage` saved in a folder; `card` is its card.

    Raises:
        DataError: the weights are not those of the card.
    """
    network = cnn(
        **card["network"],
        image_shape=tuple(card["image_shape"]),
        classes=len(card["classes"]),
        generator=torch.Generator(),
    )
    saved.load_(folder, network)
    return network


def validation_generator(seed: int, own: int | None, purpose: str) -> torch.Generator:
    """What divides training from validation images: a seed of its own, or the run's, by purpose."""
    return run.generator(seed, purpose) if own is None else torch.Generator().manual_seed(own)


def budget(recipe: Any) -> Budget:
    """The training keys of a section as a `train.Budget`."""
    return Budget(**{f.name: getattr(recipe, f.name) for f in dataclasses.fields(Budget)})
