"""The memory: what is kept of some images for other images to look up, an entry each.

Neighbours are sought among `features`; a model is handed `contents`. The two differ where labels
are added and in the controls, which change contents alone: every control is handed the entries
that the true search found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from carryover.errors import DataError
from carryover.files import DIGEST_LETTERS


@dataclass(frozen=True, eq=False)
class Store:
    """A memory: features and labels of stored images.

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
        """The contents of these entries."""
        return self.contents.index_select(0, index.flatten()).unflatten(0, index.shape)

    def digest(self) -> str:
        """Digest of all that the memory holds, in order."""
        state = hashlib.sha256(self.source.encode())
        for x in (self.features, self.contents, self.labels, self.ids):
            state.update(repr((str(x.dtype), tuple(x.shape))).encode())
            state.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return state.hexdigest()[:DIGEST_LETTERS]

    def to(self, device: torch.device) -> Store:
        """The same memory on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("features", "contents")}
        return replace(self, labels=self.labels.to(device), ids=self.ids.to(device), **moved)


def stored(
    features: Float[Tensor, "m d"],
    labels: Int64[Tensor, " m"],
    ids: Int64[Tensor, " m"],
    source: str,
    classes: int | None = None,
) -> Store:
    """A memory of these images.

    Args:
        classes: number of classes where contents end with the one-hot label; None: contents are
            the features alone (so in every published run).
    Raises:
        DataError: no image, an image twice, a feature that is not finite or a label beyond
            `classes`.
    """
    if not len(labels):
        raise DataError("memory: expected at least one image, got none; raise the number per class")
    if len(ids.unique()) < len(ids):
        raise DataError(
            f"memory: expected every image once, got {len(ids)} entries of "
            f"{len(ids.unique())} images; leave out repeats"
        )
    if not bool(features.isfinite().all()):
        raise DataError(
            "memory: expected finite features, got some that are not; look at the encoder's weights"
        )
    contents = features
    if classes is not None:
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise DataError(
                f"memory: expected labels of 0..{classes - 1}, got {int(labels.min())} "
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
        larger one's rows, so that memories of several sizes are nested.
    Raises:
        DataError: a number below 1, or a class with fewer images.
    """
    classes, counts = labels.unique(return_counts=True)
    least = int(counts.min()) if len(counts) else 0
    if not 1 <= per_class <= least:
        raise DataError(
            f"memory: expected 1 to {least} images per class, which the class with the "
            f"fewest has, got {per_class}; change the number per class"
        )
    drawn = []
    for label in classes:
        rows = (labels == label).nonzero()[:, 0]
        drawn.append(rows[torch.randperm(len(rows), generator=generator)[:per_class]])
    return torch.cat(drawn)


# --- controls -----------------------------------------------------------------------------------


def zeroed(store: Store) -> Store:
    """Every entry is handed out as zeros, its label too: retrieval's weights without its data."""
    return replace(store, contents=torch.zeros_like(store.contents))


def shuffled(store: Store, generator: torch.Generator) -> Store:
    """Every entry is handed out in the place of another; the search stays as it was.

    Real entries come, features and label together, but not near ones. Which entry stands for which
    place is fixed, so a model may still learn the places. An image that is stored itself may be
    handed its own entry in another's place: use other images as queries.
    """
    contents = store.contents.clone()
    order = torch.randperm(len(store), generator=generator).to(contents.device)
    # along a circle through all entries, so that none stays where it was
    contents[order] = store.contents[order.roll(1)]
    return replace(store, contents=contents)


def single(store: Store, entry: int) -> Store:
    """One entry is handed out whatever is found.

    Attention over k copies of an entry is attention over it, so this is a memory of one entry;
    with entry 0 it hands out what `retrieve.entry_zero` does.
    """
    return replace(store, contents=store.contents[entry : entry + 1].expand_as(store.contents))
