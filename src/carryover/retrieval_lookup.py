"""What the retrieval study looks up: the memory of a cell, and the entries that images are handed.

All arms of a seed share the division of the training images: some of each class are kept for the
memory, the rest are trained on, by models without a memory too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import run
from carryover.errors import DataError
from carryover.retrieval_arms import Cell, Control, control_of, per_class
from carryover.retrieval_start import Shown, Start, View
from carryover.solve import retrieve, store
from carryover.solve.neighbours import Neighbours
from carryover.solve.store import Store

if TYPE_CHECKING:
    from carryover.config.params import Params


def division(
    params: Params, start: Start, seed: int
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
    """Which training images are trained on, and which are kept for memories of any size.

    Raises:
        DataError: a class has too few images for the memory and, where those are not trained on,
            one to train with.
    """
    memory, labels = params.retrieval.memory, start.train.labels.cpu()
    most = max(memory.per_class, *(memory.sizes or (0,)))
    least = int(labels.bincount().min()) - (memory.images == "disjoint")
    if most > least:
        raise DataError(
            f"retrieval.memory.per_class: expected at most {least}, sizes too, since a class of "
            f"{params.retrieval.dataset} has no more images to spare, got {most}; lower it"
        )
    kept = store.chosen(labels, most, _drawn(params, "memory", seed))
    left = torch.ones(len(labels), dtype=torch.bool)
    if memory.images == "disjoint":
        left[kept] = False
    return left.nonzero()[:, 0], kept.sort().values


@dataclass(frozen=True, eq=False)
class Lookup:
    """A cell's memory and how it is used.

    Attributes:
        own: entry that shows each training image, -1 where none does or it is allowed.
    """

    params: Params
    cell: Cell
    control: Control
    store: Store
    own: Int64[Tensor, " n"]

    def nearest(self, shown: Shown, own: Int64[Tensor, " n"] | None = None) -> Int64[Tensor, "n k"]:
        """The entries nearest to images, looked for once for all cells that share them."""
        own = torch.full_like(shown.ids, -1) if own is None else own
        folder = run.scratch_root() / "neighbours"
        return retrieve.kept(self.store, shown.queries, own, self.cell.k, folder)

    def found(self, shown: Shown) -> Neighbours:
        """The nearest entries of test images with their distances, for a vote."""
        own = torch.full_like(shown.ids, -1)
        return retrieve.nearest(self.store, shown.queries, own, self.cell.k)

    def drawn(self, own: Int64[Tensor, " b"], generator: torch.Generator) -> Int64[Tensor, "b k"]:
        """Entries drawn at random for each image, or entry 0."""
        if self.control.entry_zero:
            return retrieve.entry_zero(len(own), self.cell.k, own.device)
        return retrieve.sampled(self.store, own, self.cell.k, generator)

    def at_once(
        self, queries: Float[Tensor, "b d"], own: Int64[Tensor, " b"]
    ) -> Int64[Tensor, "b k"]:
        """The entries nearest to images that were never seen before."""
        return retrieve.nearest(self.store, queries, own, self.cell.k).ids

    def of_test(self, shown: Shown, view: View, when: str) -> Int64[Tensor, "n k"]:
        """Entries of all test images; `when` tells one forward pass over them from another."""
        if self.control.access == "knn":
            return self.nearest(shown)
        purpose = f"sampled/{view.name}/{when}"
        none = torch.full_like(shown.ids, -1)
        return self.drawn(none, _drawn(self.params, purpose, self.cell.seed))


def lookup(params: Params, start: Start, cell: Cell) -> Lookup | None:
    """The memory of a cell; None for a model without retrieval.

    Raises:
        DataError: a class has too few images, or the memory too few entries for k.
    """
    study = params.retrieval
    control = control_of(study, cell)
    if control.access == "none":
        return None
    shown, rows = _stored(params, start, cell, control)
    labelled = with_labels(params, control) and control.stored != "other"
    made = store.stored(
        shown.queries[rows],
        shown.labels[rows],
        shown.ids[rows],
        shown.source,
        start.classes if labelled else None,
    )
    random = _drawn(params, f"contents/{control.contents}", cell.seed)
    if control.contents == "zeros":
        made = store.zeroed(made)
    elif control.contents == "shuffled":
        made = store.shuffled(made, random)
    elif control.contents == "single":
        made = store.single(made, int(torch.randint(len(made), (1,), generator=random)))
    own = torch.full_like(start.train.ids, -1)
    if control.stored == "others-training" or (
        not control.stored and study.memory.images == "training" and study.memory.exclude_own
    ):
        own = retrieve.own_rows(made, start.train.ids, start.train.source)
    return Lookup(params, cell, control, made, own)


def with_labels(params: Params, control: Control) -> bool:
    """Whether entries end with a one-hot label."""
    memory = params.retrieval.memory
    return (control.keys or memory.keys, control.values or memory.values) != (
        "features",
        "features",
    )


def _stored(
    params: Params, start: Start, cell: Cell, control: Control
) -> tuple[Shown, Int64[Tensor, " m"]]:
    """Images that have an entry in a cell's memory; smaller memories are part of larger ones."""
    each = per_class(params.retrieval, cell)
    random = _drawn(params, "memory", cell.seed)
    if (
        control.stored == "other"
    ):  # as many entries; its classes are other ones, and as many or more
        assert start.other is not None
        order = torch.randperm(len(start.other), generator=random)
        return start.other, order[: each * start.classes].sort().values
    labels = start.train.labels.cpu()
    if control.stored:
        rows, _ = division(params, start, cell.seed)
        return start.train, rows[store.chosen(labels[rows], each, random)].sort().values
    return start.train, memory_rows(params, start, cell)


def memory_rows(params: Params, start: Start, cell: Cell) -> Int64[Tensor, " m"]:
    """Training images that the memory of a cell holds, of those that `division` keeps."""
    each = per_class(params.retrieval, cell)
    random = _drawn(params, "memory", cell.seed)
    return store.chosen(start.train.labels.cpu(), each, random).sort().values


def _drawn(params: Params, purpose: str, seed: int) -> torch.Generator:
    return run.generator(params.seed, f"retrieval/{purpose}/{seed}")
