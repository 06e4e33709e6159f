"""What the frozen first groups of a network make of all images: computed once, shared."""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carryover.adapt.cut import frozen_part
from carryover.parallel import spread
from carryover.train import in_precision

BLOCK = 256  # images a forward pass


@dataclass(frozen=True, eq=False)
class Prefix:
    """Outputs of a network's first groups.

    Attributes:
        kept: groups that made them; 0 for the images themselves.
        values: one entry an image, in the order of the images.
    """

    kept: int
    values: Float[Tensor, "n ..."]


def extended(
    have: Prefix, network: nn.Sequential, kept: int, precision: str, processes: int
) -> Prefix:
    """The outputs of `kept` groups, made from those of fewer.

    The output of a single group is not stored: the first convolution sees one or three channels,
    so that running it again is cheaper than reading what it gives. Its place is then taken by
    the images; `have` may be deeper than asked only by mistake.

    Args:
        precision: ``float32`` or ``bfloat16``, of the computation and of what is stored.
        processes: to spread the images over, as in `parallel.spread`; the result is in memory
            that processes forked later share.
    """
    kept = kept if kept > 1 else 0
    assert kept >= have.kept
    if kept == have.kept:
        return have
    part = frozen_part(network, kept, have.kept)

    def outputs(start: int) -> Tensor:
        with torch.no_grad(), in_precision(have.values.device, precision):
            found: Tensor = part(have.values[start : start + BLOCK])
            return found

    first = outputs(0)
    values = _empty(len(have.values), first, shared=processes > 0)

    def fill(start: int) -> None:
        values[start : start + BLOCK] = outputs(start)

    for _ in spread(fill, range(0, len(values), BLOCK), processes):
        pass
    return Prefix(kept, values)


def _empty(n: int, like: Tensor, shared: bool) -> Tensor:
    """Room for n outputs, channels last; shared with processes forked later where asked."""
    _, *shape = like.shape
    if len(shape) == 3:
        c, h, w = shape
        return _flat(n * c * h * w, like, shared).view(n, h, w, c).permute(0, 3, 1, 2)
    return _flat(n * math.prod(shape), like, shared).view(n, *shape)


def _flat(numbers: int, like: Tensor, shared: bool) -> Tensor:
    if not shared:
        return torch.empty(numbers, dtype=like.dtype, device=like.device)
    return torch.frombuffer(mmap.mmap(-1, numbers * like.element_size()), dtype=like.dtype)
