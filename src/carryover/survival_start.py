"""What models of a kind began as, and the images on which it is told what is left of it.

Every kind has a start (an encoder), sets that it answers untaught (``own``: by its text, or by the
classifier that it was pretrained with), the set that it was pretrained on, whose classes probes
are taught (``source``), and the set that its models were adapted to (``target``).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from carryover.checkpoints import Checkpoint
from carryover.data.corruptions import corrupted
from carryover.data.images import Images
from carryover.data.transforms import normalise, to_rgb
from carryover.errors import DataError
from carryover.files import digest
from carryover.models.encoders import Encoder
from carryover.models.preprocess import Preprocess
from carryover.models.pretrained import Grey

Finish = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b 3 s s"]]

BLOCK = 256  # images brought to a size at once


@dataclass(frozen=True, eq=False)
class Shown:
    """Images as models see them.

    Attributes:
        pixels: on the CPU, 0..255.
        labels: on the device.
        finish: from pixels in 0..1 to what the network takes.
    """

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    finish: Finish

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, rows: Int64[Tensor, " b"]) -> Float[Tensor, "b 3 s s"]:
        """Some of them, on the device."""
        return self.finish(self.pixels[rows].to(self.labels.device).float() / 255)


@dataclass(frozen=True, eq=False)
class Part:
    """One set.

    Attributes:
        dataset: its name; of sentences that tell images apart ``NAME captions``.
        test, train: its images; a set that is answered untaught needs none to train on.
        prompts: tokens of sentences, `templates` a class, and `texts`, the start's zero-shot head
            made of them; None where no text answers.
        data: digest of the images.
    """

    dataset: str
    classes: int
    test: Shown
    data: str
    train: Shown | None = None
    prompts: Int64[Tensor, "sentences length"] | None = None
    templates: int = 1
    texts: Float[Tensor, "c d"] | None = None

    @property
    def chance(self) -> float:
        """The accuracy of names drawn evenly."""
        return 1 / self.classes


@dataclass(frozen=True, eq=False)
class Origin:
    """What models of one kind began as, and what they are looked at with.

    Attributes:
        own: sets that are answered untaught; none where the start has neither text nor classifier.
        source: what it was pretrained on, to be taught again; None where that is not here.
        worse: test images of the target by corruption.
        head: the classifier of a start that was pretrained with labels.
        starts: digests of the start's weights by what a checkpoint may hold of them.
        layered: images on which layers are compared.
    """

    encoder: Encoder
    own: tuple[Part, ...]
    source: Part | None
    target: Part
    worse: dict[str, Shown]
    head: nn.Linear | None
    starts: dict[str, str]
    layered: Shown
    device: torch.device

    @property
    def data(self) -> str:
        """Digest of all images."""
        parts = [*self.own, *([self.source] if self.source else []), self.target]
        return digest([part.data for part in parts])

    @property
    def weights(self) -> str:
        """Digest of the start."""
        return self.starts["image"]


def spread_rows(count: int, most: int) -> Int64[Tensor, " n"]:
    """At most so many of some rows, evenly spread over all; the same always."""
    wanted = min(count, most)
    return torch.arange(wanted) * count // max(wanted, 1)


def shown(
    images: Images, most: int, preprocess: Preprocess, device: torch.device
) -> tuple[Shown, str]:
    """At most so many images of a split for an encoder, and their digest."""
    some = images.select(spread_rows(len(images), most))
    if isinstance(some.pixels, Tensor):
        pixels, left = some.pixels, preprocess
    else:
        to_size = preprocess.sizing()
        each = [
            to_size(to_rgb(some.image(i)[None].float() / 255)).mul(255).round().to(torch.uint8)
            for i in range(len(some))
        ]
        pixels, left = torch.cat(each), dataclasses.replace(preprocess, shorter=0)

    def finish(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 s s"]:
        return left(to_rgb(x))

    return Shown(pixels, some.labels.to(device), finish), some.digest


def shown_small(
    images: Images,
    most: int,
    size: int,
    scale: tuple[Sequence[float], Sequence[float]] | None,
    preprocess: Preprocess,
    device: torch.device,
) -> tuple[Shown, str]:
    """As `shown`, at another size first, and with another mean and deviation where they are given.

    The encoder's own preprocessing follows where they are not.
    """
    some = images.select(spread_rows(len(images), most))
    rows = torch.arange(len(some))
    made = [some.floats(part, size).clamp(0, 1).mul(255).round() for part in rows.split(BLOCK)]

    def finish(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 s s"]:
        return preprocess(to_rgb(x)) if scale is None else to_rgb(normalise(x, *scale))

    pixels = torch.cat(made).to(torch.uint8)
    return Shown(pixels, some.labels.to(device), finish), some.digest


def made_worse(found: Shown, kinds: Sequence[str], severity: int) -> dict[str, Shown]:
    """The images with each corruption, in 8 bits as a file of them would hold them."""
    x = found.pixels.float() / 255
    return {
        kind: dataclasses.replace(
            found, pixels=corrupted(x, kind, severity).mul(255).round().to(torch.uint8)
        )
        for kind in kinds
    }


@dataclass(frozen=True, eq=False)
class Model:
    """An encoder's image network with the whole that it is part of.

    Attributes:
        own_text: the text network has trained too; without it the start's texts stand.
    """

    whole: Any
    image: nn.Module
    own_text: bool = False


def start_model(origin: Origin) -> Model:
    """The start itself, to be looked at and not to be changed."""
    return Model(origin.encoder.model, origin.encoder.image)


def start_state(origin: Origin, found: Checkpoint) -> dict[str, Tensor]:
    """The start's tensors of the kind that a checkpoint holds."""
    owner = origin.encoder.model if found.what == "model" else origin.encoder.image
    state: dict[str, Tensor] = owner.state_dict()
    return state


def state_of(origin: Origin, found: Checkpoint) -> dict[str, Tensor]:
    """Those that belong to the modules that a cut network has."""
    state = start_state(origin, found)
    modules = found.form.get("modules")
    if modules is None:
        return state
    return {name: tensor for name, tensor in state.items() if name.split(".")[0] in modules}


def built(origin: Origin, found: Checkpoint, tensors: dict[str, Tensor]) -> Model:
    """The start's network with other tensors in the place of its own.

    Raises:
        DataError: tensors that it does not have, or of other shapes.
    """
    whole, image = copy.deepcopy((origin.encoder.model, origin.encoder.image))
    modules = found.form.get("modules")
    if modules is not None:  # a network that was cut; what makes its input grey is none of it
        for name, module in list(image.named_children()):
            if name not in modules and not isinstance(module, Grey):
                delattr(image, name)
        _fit_(image, tensors)
    owner = whole if found.what == "model" else image
    state = owner.state_dict()
    wrong = [n for n, t in tensors.items() if n not in state or state[n].shape != t.shape]
    if wrong:
        raise DataError(
            f"checkpoint of {found.study} {found.item}: expected tensors of {found.network}, got "
            f"{wrong[0]} of another network; run `dvc repro -f {found.study}@{found.item}`"
        )
    owner.load_state_dict({**state, **tensors})
    return Model(whole.eval(), image.eval(), found.what == "model")


def _fit_(image: Any, tensors: dict[str, Tensor]) -> None:
    """Give linear layers the shape of their weights: behind a cut they take other features."""
    for name, module in list(image.named_children()):
        weight = tensors.get(f"{name}.weight")
        if isinstance(module, nn.Linear) and weight is not None:
            other = nn.Linear(weight.shape[1], weight.shape[0]).to(weight)
            setattr(image, name, other)


def mean_texts(W: Float[Tensor, "sentences d"], templates: int) -> Float[Tensor, "c d"]:
    """For each class the mean over its sentences' unit embeddings, made unit."""
    return F.normalize(W.unflatten(0, (-1, templates)).mean(1), dim=-1)
