"""What is asked of models beside what they were adapted to: sets by name, from parameters alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carryover.errors import pick

if TYPE_CHECKING:
    from carryover.config.params import Params

PRETRAIN = "pretrain:"


@dataclass(frozen=True)
class Asked:
    """Sets of one kind of model.

    Attributes:
        adapted: those that it was adapted to; `target` the one that probes are taught of these.
        others: those that class prompts answer untaught where the encoder knows text.
        source: the set that the encoder was pretrained on, or that stands for it; None where none
            is known.
    """

    adapted: tuple[str, ...]
    target: str
    others: tuple[str, ...]
    source: str | None

    @property
    def apart(self) -> tuple[str, ...]:
        """The source, unless it was adapted to."""
        return (self.source,) if self.source and self.source not in self.adapted else ()


def asked(params: Params, study: str, network: str, target: str) -> Asked:
    """The sets of a kind of model.

    Args:
        network: what it began as, an encoder of the parameters or a source (``pretrain:NAME``).
        target: what it was adapted to, in its study's words: a set, an order, a stream.
    Raises:
        ConfigError: a study whose models are not looked at.
    """
    adapted, others, chosen = pick(SETS_OF, study, "survival.origins")(params, network, target)
    entry = params.encoders.get(network)
    source = source_of(params, entry.source if entry else network, adapted)
    return Asked(tuple(adapted), chosen, tuple(others), source)


def source_of(params: Params, source: str, adapted: Sequence[str]) -> str | None:
    """The set that an encoder of a source was pretrained on.

    Of a corpus of several the first that was not adapted to; of an encoder that was not pretrained
    here the one that ``survival.pretrained_on`` names.
    """
    if not source.startswith(PRETRAIN):
        return params.survival.pretrained_on
    recipe = params.pretrain[source.removeprefix(PRETRAIN)]
    sets: tuple[str, ...] = getattr(recipe, "sets", (recipe.dataset,))
    return next((name for name in sets if name not in adapted), sets[0])


Sets = tuple[Sequence[str], Sequence[str], str]  # adapted to, others, the target of these


def _cuts(params: Params, network: str, target: str) -> Sets:
    """Other classes of a set are answered by the classifier of the source."""
    return [params.cuts.dataset], [], params.cuts.dataset


def _adapt(params: Params, network: str, target: str) -> Sets:
    return [target], params.adapt.others or (), target


def _continual(params: Params, network: str, target: str) -> Sets:
    streamed = params.continual.streams[target]
    known = params.encoders[network].datasets
    return streamed, [name for name in known if name not in streamed], streamed[0]


def _sequence(params: Params, network: str, target: str) -> Sets:
    order = params.sequence.orders[target]
    return order, [name for name in params.sequence.datasets if name not in order], order[-1]


def _retrieval(params: Params, network: str, target: str) -> Sets:
    return [target], [], target


SETS_OF: dict[str, Callable[[Params, str, str], Sets]] = {
    "cuts": _cuts,
    "adapt": _adapt,
    "continual": _continual,
    "sequence": _sequence,
    "retrieval": _retrieval,
}
