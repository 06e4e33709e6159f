"""Observations that a quantity is made of in one repeat, and what each of them counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from carryover.claims.functions import Field, Key
from carryover.claims.observations import Observation
from carryover.claims.quantity import Quantity

IMAGE_AXES = ("pair", "dataset", "task", "stream")  # axes that say which images were tested on

Cells = dict[str, dict[Key, Observation]]


def numbers_of(cells: Cells) -> Mapping[str, Field]:
    return {
        text: {key: np.array([each.value]) for key, each in found.items()}
        for text, found in cells.items()
    }


def leaves_of(cells: Cells) -> list[Observation]:
    """Observations of all terms, each once."""
    found = {id(each): each for cells_of in cells.values() for each in cells_of.values()}
    return list(found.values())


def tested_on(each: Observation) -> tuple[object, ...]:
    """What tells the images that an accuracy is over from others."""
    return (each.split, each.n, *(each.cell.get(axis) for axis in IMAGE_AXES))


def weights_of(quantity: Quantity, cells: Cells) -> dict[int, float]:
    """How much the quantity moves with each observation; constant, since it is a weighted sum."""
    places = {id(each): i for i, each in enumerate(leaves_of(cells))}
    moved = np.eye(len(places) + 1)[:-1]  # observation i is moved in case i, none in the last
    values = quantity.values(
        {
            text: {key: each.value + moved[places[id(each)]] for key, each in found.items()}
            for text, found in cells.items()
        }
    )
    values = np.broadcast_to(values, len(places) + 1)
    return {name: round(float(values[i] - values[-1]), 12) for name, i in places.items()}
