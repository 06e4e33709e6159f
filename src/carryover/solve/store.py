"""The retrieval store: what is kept of some images for other images to look up.

Neighbours are sought among `features`; a model is handed `contents`. The two differ where labels
are added and in the controls, which change contents alone: every control is handed the rows that
the true search found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError
from carryover.files import DIGEST_LETTERS

Shuffle = Literal["rows", "columns", "labels"]


@dataclass(frozen=True, eq=False)
class Store:
    """Features and labels of stored images.

    Attributes:
        features: what queries are compared with.
        contents: what a model is handed: the features, with one-hot labels behind them if asked.
        labels: class ids.
        ids: row of each image in its source, no image twice.
        source: the set and split that `ids` count rows of; its digest.
    """

    features: Float[Tensor, "m d"]
    contents: Float[Tensor, "m w"]
    labels: Int64[Tensor, " m"]
    ids: Int64[Tensor, " m"]
    source: str

    def __len__(self) -> int:
        return len(self.labels)

    def handed(self, index: Int64[Tensor, "b k"]) -> Float[Tensor, "b k w"]:
        """The contents of these rows."""
        return self.contents.index_select(0, index.flatten()).unflatten(0, index.shape)

    def digest(self) -> str:
        """Digest of all that the store holds, in order."""
        state = hashlib.sha256(self.source.encode())
        for x in (self.features, self.contents, self.labels, self.ids):
            state.update(repr((str(x.dtype), tuple(x.shape))).encode())
            state.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return state.hexdigest()[:DIGEST_LETTERS]

    def to(self, device: torch.device) -> Store:
        """The same store on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("features", "contents")}
        return replace(self, labels=self.labels.to(device), ids=self.ids.to(device), **moved)


def stored(
    features: Float[Tensor, "m d"],
    labels: Int64[Tensor, " m"],
    ids: Int64[Tensor, " m"],
    source: str,
    classes: int | None = None,
) -> Store:
    """A store of these images.

    Args:
        classes: number of classes where contents end with the one-hot label; None: contents are
            the features alone (so in every published run).
    Raises:
        DataError: no image, an image twice, a feature that is not finite or a label beyond
            `classes`.
    """
    if not len(labels):
        raise DataError(
            "retrieval store: expected at least one image, got none; raise the number per class"
        )
    if len(ids.unique()) < len(ids):
        raise DataError(
            f"retrieval store: expected every image once, got {len(ids)} rows of "
            f"{len(ids.unique())} images; leave out repeats"
        )
    if not bool(features.isfinite().all()):
        raise DataError(
            "retrieval store: expected finite features, got some that are not; look at the "
            "encoder's weights"
        )
    contents = features
    if classes is not None:
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise DataError(
                f"retrieval store: expected labels of 0..{classes - 1}, got {int(labels.min())} "
                f"to {int(labels.max())}; store features alone for a set of other classes"
            )
        contents = torch.cat([features, F.one_hot(labels, classes).to(features)], 1)
    return Store(features, contents, labels, ids, source)


def chosen(
    labels: Int64[Tensor, " n"], per_class: int, generator: torch.Generator
) -> Int64[Tensor, " m"]:
    """Rows of a set to store: so many of each class, drawn at random.

    Returns:
        Row numbers class by class. With the same seed a smaller number per class gives some of a
        larger one's rows, so that stores of several sizes are nested.
    Raises:
        DataError: a number below 1, or a class with fewer images.
    """
    classes, counts = labels.unique(return_counts=True)
    least = int(counts.min()) if len(counts) else 0
    if not 1 <= per_class <= least:
        raise DataError(
            f"retrieval store: expected 1 to {least} images per class, which the class with the "
            f"fewest has, got {per_class}; change the number per class"
        )
    drawn = []
    for label in classes:
        rows = (labels == label).nonzero()[:, 0]
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:per_class]])
    return torch.cat(drawn)


# --- controls -----------------------------------------------------------------------------------


def zeroed(store: Store) -> Store:
    """Every row handed out is zero, its label too: the weights of retrieval without its data."""
    return replace(store, contents=torch.zeros_like(store.contents))


def shuffled(store: Store, what: Shuffle, generator: torch.Generator) -> Store:
    """What is found no longer fits the query; the search stays as it was.

    Args:
        what: "rows": every row is handed out in the place of another, features and label together,
            so that real entries come, but not near ones; which entry stands for which place is
            fixed, so a model may still learn the places. An image that is stored itself may then
            be handed its own entry in another's place: use other images as queries. "columns":
            every column is permuted for itself, so that no entry is one of an image, while each
            column keeps its values. "labels": features stay, the label is another row's.
    Raises:
        DataError: "labels" where contents have none.
    """
    width = store.features.shape[1]
    contents = store.contents.clone()
    if what == "labels" and contents.shape[1] == width:
        raise DataError(
            "retrieval store: expected contents with labels to shuffle, got features alone; give "
            "the number of classes"
        )
    if what == "columns":
        order = torch.rand(contents.shape, generator=generator).argsort(0)
        contents = contents.gather(0, order.to(contents.device))
    else:
        first = width if what == "labels" else 0
        order = torch.randperm(len(store), generator=generator).to(contents.device)
        # along a circle through all rows, so that none stays where it was
        contents[order, first:] = store.contents[order.roll(1), first:]
    return replace(store, contents=contents)


def single(store: Store, row: int) -> Store:
    """One row is handed out whatever is found.

    Attention over k copies of a row is attention over that row, so this is a memory of one entry;
    with row 0 it hands out what `retrieve.entry_zero` does.
    """
    return replace(store, contents=store.contents[row : row + 1].expand_as(store.contents))
