"""What the cross-entropy is taken of, and what predicts: logits, or one of two published faults."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from carryover.errors import pick

Loss = Callable[[nn.Module, Shaped[Tensor, "b ..."], Int[Tensor, " b"]], Float[Tensor, ""]]
Softmax = Callable[[Float[Tensor, "b c"]], Float[Tensor, "b c"]]


def cross_entropy_after(softmax: str) -> Loss:
    """The mean cross-entropy, in nats, of a network's logits after one of `SOFTMAX`.

    Raises:
        ConfigError: an unknown name.
    """
    after = pick(SOFTMAX, softmax, "softmax")

    def loss(
        network: nn.Module, inputs: Shaped[Tensor, "b ..."], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        return nn.functional.cross_entropy(after(network(inputs)), labels)

    return loss


def raw(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """The logits themselves: corrected."""
    return logits


def softmax_over_classes(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """As in the published classifier: the loss takes a second softmax.

    With C classes it cannot fall below ln(1 + (C - 1) / e), 3.63 nats of 101.
    """
    return logits.softmax(dim=1)


def softmax_over_batch(logits: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """As in the published probe on embeddings: the images of a batch compete for each class."""
    return logits.softmax(dim=0)


SOFTMAX: dict[str, Softmax] = {
    "none": raw,
    "classes": softmax_over_classes,
    "batch": softmax_over_batch,
}
