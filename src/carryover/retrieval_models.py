"""The models of the retrieval study, with what is kept while one trains."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover import run
from carryover.checkpoints import Checkpoint, changed
from carryover.data.transforms import normalise, to_rgb
from carryover.models import retrieval as models
from carryover.models.encoders import Encoder
from carryover.models.preprocess import Preprocess
from carryover.retrieval_arms import Cell, Control, control_of
from carryover.retrieval_lookup import with_labels
from carryover.retrieval_start import Start

if TYPE_CHECKING:
    from carryover.config.params import Params
    from carryover.config.retrieval import Retrieval


class Model(nn.Module):
    """A network on pixels in 0..1: mean and deviation are taken out first."""

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.mean, self.std = mean, std

    def forward(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b c"]:
        x = normalise(x, self.mean, self.std) if self.mean else x
        return self.network(x, rows)


class Started(nn.Module):
    """An encoder as it is, with its own preprocessing, and a new layer of logits."""

    def __init__(self, encoder: Encoder, width: int, classes: int) -> None:
        super().__init__()
        self.image = copy.deepcopy(encoder.image)
        self.preprocess = encoder.preprocess
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Float[Tensor, "b ch h w"], rows: None = None) -> Float[Tensor, "b c"]:
        return self.linear(self.image(self.preprocess(to_rgb(x))))


class Record(nn.Module):
    """A model with what is kept of its training, so that a saved state holds both.

    Attributes:
        losses: of each update's batch, as many as are `done`.
        named: the class of each test image, by evaluated step and noise.
        drawn: of each evaluation of the running maximum, which of its images were right.
    """

    done: Tensor
    losses: Tensor
    named: Tensor
    drawn: Tensor

    def __init__(
        self, model: nn.Module, updates: int, named: tuple[int, int, int], drawn: tuple[int, int]
    ) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))
        self.register_buffer("losses", torch.zeros(updates))
        self.register_buffer("named", torch.zeros(named, dtype=torch.int16))
        self.register_buffer("drawn", torch.zeros(drawn, dtype=torch.bool))

    def note_(self, loss: Float[Tensor, ""]) -> None:
        """Keep the loss of one more update."""
        self.losses[int(self.done)] = loss
        self.done += 1


def build(params: Params, start: Start, item: str, cell: Cell) -> nn.Module:
    """The model of a cell with its new weights.

    Cells of a seed that have the same weights have them alike: those of the network itself in all
    arms, those of attention in all arms with retrieval.

    Raises:
        ConfigError: sizes that cannot be.
    """
    study = params.retrieval
    control = control_of(study, cell)
    about: dict[str, Any] = {
        "classes": study.head_classes or start.classes,
        "channels": start.train.pixels.shape[1],
        "size": study.size,
    }
    dims = dataclasses.asdict(getattr(study.networks, item))
    if control.widened:
        plain = Control("knn", reshaped=False)
        dims = models.widened(
            item, **about, dims=dims, retrieval=branch(params, start, item, plain)
        )
    random = run.generator(params.seed, f"retrieval/weights/{cell.seed}")
    network = models.build(
        item,
        **about,
        dims=dims,
        retrieval=None if control.access == "none" else branch(params, start, item, control),
        generator=random,
    )
    if control.start:
        encoder = start.starts[cell.control]
        spread = spread_of(encoder.preprocess, about["channels"])
        if spread is None or not take_(network, encoder.image):
            return started(start, encoder, about["classes"], random).to(start.device)
        return Model(network, *spread).to(start.device)
    return Model(network, start.mean, start.std).to(start.device)


def branch(params: Params, start: Start, item: str, control: Control) -> dict[str, Any]:
    """What attention to retrieved entries is made from."""
    memory = params.retrieval.memory
    of_other = control.stored == "other"
    labels = start.classes if with_labels(params, control) and not of_other else 0
    return dataclasses.asdict(params.retrieval.branches[item]) | {
        "features": start.train.queries.shape[1],
        "labels": labels,
        "keys": control.keys or memory.keys,
        "values": control.values or memory.values,
        # the Perceiver attends by its latents, which are no map
        "tokens": "reshaped" if control.reshaped and item != "perceiver" else "positions",
    }


def spread_of(
    preprocess: Preprocess, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The mean and deviation that pretrained weights expect, for images of so many channels.

    Returns:
        () each for pixels as they are; None where these two alone cannot do what the preprocessing
        does: one channel has no mean of each colour, and there are other factors and no colours.
    """
    mean, std = preprocess.mean, preprocess.std
    if preprocess.grey or preprocess.times != 1 or (channels != 3 and channels != 1):
        return None
    if channels == 3 or not mean:
        return mean, std
    alike = len(set(mean)) == 1 and len(set(std)) == 1
    return (mean[:1], std[:1]) if alike else None


def take_(network: nn.Module, image: nn.Module) -> bool:
    """Give a network an encoder's weights, all but the last layer, in place.

    Weights for colour channels are added up for a network of one channel: on grey images that
    is the same.

    Returns:
        False, and nothing is changed, where the encoder is another network.
    """
    own, given = network.state_dict(), dict(image.state_dict())
    for name, value in given.items():
        if name in own and value.ndim == 4 and own[name].shape[1] == 1 != value.shape[1]:
            given[name] = value.sum(1, keepdim=True)
    missing = own.keys() - given.keys()  # weight and bias of the last layer
    if given.keys() - own.keys() or len(missing) != 2:
        return False
    if any(given[name].shape != own[name].shape for name in given):
        return False
    network.load_state_dict({**own, **given})
    return True


def adapted(study: Retrieval, start: Start, item: str, cell: Cell, model: nn.Module) -> Checkpoint:
    """The encoder that a model began as, after its training.

    Where weights for colours were added up for grey images, each colour's changes by an equal
    share, so that grey images give what the model gives.
    """
    encoder = start.starts[cell.control]
    first = encoder.image.state_dict()
    form: dict[str, Any] = {"size": study.size}
    if isinstance(model, Started):
        tensors = model.image.state_dict()
    else:
        assert isinstance(model, Model)
        form |= {"mean": list(model.mean), "std": list(model.std)}
        own = model.network.state_dict()
        tensors = {name: _in_colour(own[name], given) for name, given in first.items()}
    return Checkpoint(
        study="retrieval",
        item=item,
        cell={"control": cell.control, "seed": cell.seed},
        network=encoder.name,
        start=encoder.weights,
        what="image",
        tensors=changed(tensors, first),
        form=form,
    )


def _in_colour(tensor: Tensor, given: Tensor) -> Tensor:
    if tensor.shape == given.shape:
        return tensor
    return given + (tensor - given.sum(1, keepdim=True)) / given.shape[1]


def started(start: Start, encoder: Encoder, classes: int, random: torch.Generator) -> Started:
    """An encoder of another form than the item's network, with a new last layer."""
    pixels = start.train.pixels[:2].float() / 255
    with torch.no_grad():
        width = encoder.image(encoder.preprocess(to_rgb(pixels))).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=random)))
        return Started(encoder, width, classes)
