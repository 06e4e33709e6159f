"""From pixels in 0..1 to what one encoder was trained on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from carryover.data.transforms import normalise
from carryover.errors import ConfigError
from carryover.files import digest

Resize = Literal["crop", "squash"]
Interpolation = Literal["bicubic", "bilinear"]

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, as Pillow has it


@dataclass(frozen=True)
class Preprocess:
    """Resize, then take mean and standard deviation out of the channels.

    Args:
        size: side of the square that the encoder takes.
        resize: ``crop`` scales the shorter side and cuts the centre out; ``squash`` scales both
            sides to `size` and changes the proportions.
        mean, std: one number a channel, in 0..1; () for pixels as they are.
        shorter: the shorter side before the cut where it is more than `size`, else 0.
        grey: colours are taken away, three equal channels stay (ITU-R 601 luma).
        times: factor of the values before mean and deviation are taken out; 1/255 is what a
            processor does that takes pixels in 0..1 for 0..255.
    """

    size: int
    resize: Resize
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shorter: int = 0
    grey: bool = False
    times: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what a file may say and no image survives.

        Raises:
            ValueError: no size of 1 or more, or not three means and deviations.
        """
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"preprocessing: expected 1 pixel or more, got size {self.size!r}")
        numbers = [v for v in (*self.mean, *self.std) if isinstance(v, int | float)]
        three = len(self.mean) == len(self.std) == 3 and all(map(math.isfinite, numbers))
        if (self.mean or self.std) and not (
            three and len(numbers) == 6 and all(v > 0 for v in self.std)
        ):
            raise ValueError(
                "preprocessing: expected three finite means and three deviations above 0, got "
                f"{list(self.mean)} and {list(self.std)}"
            )

    def __call__(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """The encoder's input, on the device of the images."""
        height, width = x.shape[-2:]
        if self.resize == "squash":
            x = self._scaled(x, self.size, self.size)
        else:
            short = max(self.shorter, self.size)
            low, high = min(height, width), max(height, width)
            long = short * high // low  # rounded down, as torchvision's Resize
            x = self._scaled(x, *((short, long) if height <= width else (long, short)))
            x = _centre(x, self.size)
        if self.grey:
            x = (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True).expand_as(x)
        if self.times != 1:
            x = x * self.times
        return normalise(x, self.mean, self.std) if self.mean else x

    def _scaled(self, x: Tensor, height: int, width: int) -> Tensor:
        if x.shape[-2:] == (height, width):
            return x
        mode = self.interpolation
        x = F.interpolate(x, (height, width), mode=mode, align_corners=False, antialias=True)
        return x.clamp(0, 1)  # bicubic overshoots; an 8-bit image cannot

    def sizing(self) -> Preprocess:
        """The part that resizes, which leaves values in 0..1."""
        return dataclasses.replace(self, mean=(), std=(), grey=False, times=1.0)

    def digest(self) -> str:
        """Digest of what this does to pixels."""
        fields = dataclasses.asdict(self)
        for name in ("grey", "times"):  # said only where it is on: stored digests lack it
            if fields[name] == Preprocess.__dataclass_fields__[name].default:
                del fields[name]
        return digest(fields)


def _centre(x: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c size size"]:
    """The square in the middle, half pixels rounded as torchvision's CenterCrop does."""
    top, left = (round((side - size) / 2) for side in x.shape[-2:])
    return x[..., top : top + size, left : left + size]


def from_open_clip(fields: Mapping[str, Any], size: int) -> Preprocess:
    """From open_clip's ``preprocess_cfg`` or the entry of a pretrained tag.

    Raises:
        ConfigError: a way to resize that this kit does not have.
    """
    return Preprocess(
        size,
        _one_of(RESIZES, fields.get("resize_mode", "shortest"), "resize_mode"),
        _one_of(INTERPOLATIONS, fields.get("interpolation", "bicubic"), "interpolation"),
        tuple(fields["mean"]),
        tuple(fields["std"]),
    )


def from_timm(fields: Mapping[str, Any]) -> Preprocess:
    """From timm's data config (``timm.data.resolve_data_config``)."""
    size = fields["input_size"][-1]
    squash = fields.get("crop_mode") == "squash"
    return Preprocess(
        size,
        "squash" if squash else "crop",
        _one_of(INTERPOLATIONS, fields["interpolation"], "interpolation"),
        tuple(fields["mean"]),
        tuple(fields["std"]),
        0 if squash else int(size / fields.get("crop_pct", 1.0)),
    )


def from_hugging_face(fields: Mapping[str, Any]) -> Preprocess:
    """From ``preprocessor_config.json``: both sides are scaled to ``size`` before the crop.

    Raises:
        ConfigError: a crop that is not the whole of the scaled image.
    """
    size, crop = (_side(fields.get(key, 224), key) for key in ("size", "crop_size"))
    if fields.get("do_center_crop", True) and crop != size:
        raise ConfigError(
            f"preprocessor_config.json: expected crop_size to equal size, got {crop} and {size}; "
            "mend the file"
        )
    normal = fields.get("do_normalize", True)
    return Preprocess(
        size,
        "squash",
        _one_of(PILLOW, fields.get("resample", 3), "resample"),
        tuple(fields["image_mean"]) if normal else (),
        tuple(fields["image_std"]) if normal else (),
    )


def from_torchvision(transform: Any) -> Preprocess:
    """From the transforms of a torchvision weights entry (``Weights.DEFAULT.transforms()``)."""
    return Preprocess(
        transform.crop_size[0],
        "crop",
        _one_of(INTERPOLATIONS, transform.interpolation.value, "interpolation"),
        tuple(transform.mean),
        tuple(transform.std),
        transform.resize_size[0],
    )


def from_card(fields: Mapping[str, Any]) -> Preprocess:
    """From a card that holds the fields of `Preprocess` under their own names."""
    fields = {**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])}
    return Preprocess(**fields)


def _side(value: Any, key: str) -> int:
    """The side of a square given as a number or as height and width."""
    if isinstance(value, Mapping):
        sides = set(value.values())
        if len(sides) != 1:
            raise ConfigError(
                f"preprocessor_config.json: {key}: expected a square, got {dict(value)}"
            )
        value = sides.pop()
    return int(value)


def _one_of(table: Mapping[Any, Any], name: Any, key: str) -> Any:
    """The entry of a table; a sentence where a file asks for what is not there."""
    if name not in table:
        known = ", ".join(map(str, table))
        raise ConfigError(f"preprocessing: {key}: expected one of {known}, got {name!r}")
    return table[name]


RESIZES: dict[str, Resize] = {"shortest": "crop", "squash": "squash"}  # open_clip's names
INTERPOLATIONS: dict[str, Interpolation] = {
    "bicubic": "bicubic",
    "bilinear": "bilinear",
    "random": "bicubic",  # open_clip's for training; it evaluates with bicubic
}
PILLOW: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
