"""The ``pretrain@NAME`` stages: each entry of the ``pretrain`` section by its objective."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carryover import provenance, run
from carryover.errors import pick
from carryover.pretrain import contrastive, selfsupervised, supervised
from carryover.scratch import alone

if TYPE_CHECKING:
    from carryover.config.params import Params


def stage(params: Params, item: str, context: run.Context) -> None:
    """Train and save one network; its card has the digest of its own objective's code."""
    recipe = pick(params.pretrain, item, "pretrain")
    module: Any = OBJECTIVES[recipe.objective]
    source = provenance.source_digest(module.__name__)
    with alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"):
        module.stage(params, item, replace(context, source=source))


OBJECTIVES = {
    "supervised": supervised,
    "contrastive": contrastive,
    "byol": selfsupervised,
    "simclr": selfsupervised,
}
