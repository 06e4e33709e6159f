"""What a stream's pool holds out to choose rates on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from carryover.config import params as config
from carryover.config.continual_arms import Protocol
from carryover.continual_pools import Pool, load_pool, stream_of
from carryover.continual_start import Start
from carryover.continual_training import Cell, stream_for
from carryover.data.images import Images
from carryover.data.splits import hold_out
from carryover.errors import ConfigError, DataError
from carryover.stages import PARAMS
from conftest import TINY, Checkout

CLASSES, EACH, TESTED = 4, 20, 5
FRACTION = 0.2
NONE = torch.zeros(0, dtype=torch.int64)
NAMES = Images(NONE, tuple("abcd"), NONE, {}, "", torch.zeros(0, 1, 2, 2, dtype=torch.uint8))


def protocol(kind: Any, experiences: int = 2) -> Protocol:
    degrees = tuple(10.0 * i for i in range(experiences)) if kind == "rotated" else None
    return Protocol(kind, experiences, False, 0, False, False, degrees)


def pool(domains: int, ids: str) -> Pool:
    """Training rows of every domain, then test rows; ids: those of a domain, or all their own."""
    made = []
    for count, test in ((EACH * CLASSES, False), (TESTED * CLASSES, True)):
        for domain in range(domains):
            first = domain * count if ids == "own" else 0
            made += [(i % CLASSES, first + i, domain, test) for i in range(count)]
    labels, numbers, places, tested = (torch.tensor(part) for part in zip(*made, strict=True))
    return Pool((NAMES,), (None,), labels, numbers, places, tested)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["permuted", "rotated"])
def test_a_photograph_is_held_out_of_every_domain_that_shows_it(kind: str) -> None:
    made = pool(3, "same")
    stream = stream_of(made, protocol(kind, 3), 0, (FRACTION, random()))
    held = [set(made.ids[task.test].tolist()) for task in stream.tasks]
    assert held[0] == held[1] == held[2]
    assert len(held[0]) == CLASSES * round(FRACTION * EACH)
    for domain, task in enumerate(stream.tasks):
        assert (
            set(made.domain[task.train].tolist())
            == {domain}
            == set(made.domain[task.test].tolist())
        )
        assert not held[0] & set(made.ids[task.train].tolist())
        assert not made.test[task.test].any()
        assert len(task.train) + len(task.test) == CLASSES * EACH
        assert made.labels[task.test].bincount().tolist() == [round(FRACTION * EACH)] * CLASSES


@pytest.mark.parametrize(("kind", "domains", "ids"), [("ni", 1, "own"), ("domains", 3, "same")])
def test_images_that_occur_once_are_drawn_by_domain_and_class(
    kind: str, domains: int, ids: str
) -> None:
    """Sets of several domains may number their images alike: they are other photographs."""
    made = pool(domains, ids)
    stream = stream_of(made, protocol(kind, max(domains, 2)), 0, (FRACTION, random()))
    rows = made.rows(test=False)
    kept, held = hold_out(
        made.domain[rows] * CLASSES + made.labels[rows], FRACTION, random(), stratified=True
    )
    train = torch.cat([task.train for task in stream.tasks]).sort().values
    tested = torch.cat([task.test for task in stream.tasks]).unique()
    assert torch.equal(train, rows[kept])
    assert torch.equal(tested, rows[held])


@pytest.mark.parametrize("seeds", [(None, 0), (0, 7)])
def test_a_permutation_is_drawn_by_its_protocols_seed(
    pretrained: Checkout, seeds: tuple[int | None, int]
) -> None:
    """Else by the parameters' seed and its name, which another protocol has of its own."""
    params = config.read(PARAMS)
    made = []
    for seed in seeds:
        for name in ("one", "other"):
            found = load_pool(params, "s-digits", replace(protocol("permuted"), seed=seed), name)
            made.append(found.parts[1].digest)
    first, other_name, second, same = made
    assert (first == other_name) == (seeds[0] is not None)
    assert first != second == same


@pytest.mark.parametrize(("kind", "domains"), [("ni", 1), ("classes", 1), ("domains", 2)])
def test_a_share_that_leaves_nothing_to_train_on_is_refused(kind: str, domains: int) -> None:
    message = r"^continual\.validation_fraction: expected a share that leaves at least one image of"
    with pytest.raises(ConfigError, match=message):
        stream_of(pool(domains, "own"), protocol(kind), 0, (0.9999, random()))


def test_a_stream_that_cannot_be_made_is_named_by_its_protocol() -> None:
    params = config.read(TINY)
    known = {"ci-3": protocol("classes", 3), "far": protocol("domains", 2)}
    arm = replace(params.continual.arms["chunks"], shuffle=None, stream_seed=None)
    study = replace(params.continual, arms={"first": arm}, protocols=known)
    made = pool(1, "own")
    start = Start({}, {("s", ""): made, ("s", "far"): made}, {}, torch.device("cpu"))
    for name, said in (
        ("ci-3", r"^continual\.protocols\.ci-3\.experiences: expected a divisor of the 4 classes"),
        ("far", r"^continual\.protocols\.far: domains: expected training and test rows in each"),
    ):
        with pytest.raises(DataError, match=said):
            stream_for(
                replace(params, continual=study), start, Cell("first", "s", name, "naive", 0)
            )
