"""Tests between columns against hand counts, counting all signs, and SciPy."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest
from scipy import stats

from carryover.errors import DataError
from carryover.measure import ranks
from carryover.measure.ranks import published_signed_rank, signed_rank

Columns = dict[int, list[float]]


def shifted(*means: float, n: int = 12, seed: int = 0) -> Columns:
    """Columns of these means with small spread, keyed 0, 1, ..."""
    random = np.random.default_rng(seed)
    return {i: list(mean + 0.01 * random.normal(size=n)) for i, mean in enumerate(means)}


# --- one pair of columns -----------------------------------------------------------------------


def test_signed_rank_by_hand() -> None:
    # differences 1, 2, 3, -4: rank sums 6 and 4; of 16 signs 7 have a negative sum up to 4
    found = signed_rank([2.0, 4.0, 6.0, 0.0], [1.0, 2.0, 3.0, 4.0])
    assert (found.statistic, found.n) == (4.0, 4)
    assert found.p == pytest.approx(14 / 16)
    assert found.smallest_p == 0.125
    assert found == published_signed_rank([2.0, 4.0, 6.0, 0.0], [1.0, 2.0, 3.0, 4.0])


def test_equal_columns_give_one() -> None:
    for test in (signed_rank, published_signed_rank):
        assert test([0.5, 0.6], [0.5, 0.6]) == ranks.SignedRank(0.0, 1.0, 2)
    assert published_signed_rank([], [1.0]) == ranks.SignedRank(0.0, 1.0, 0)


def test_the_sign_and_the_order_of_pairs_do_not_matter() -> None:
    random = np.random.default_rng(1)
    a, b = list(random.normal(size=9)), list(random.normal(size=9))
    order = random.permutation(9)
    for test in (signed_rank, published_signed_rank):
        assert test(a, b) == test(b, a) == test([a[i] for i in order], [b[i] for i in order])


def test_published_exact_p_agrees_with_counting_all_signs() -> None:
    sizes = np.array([1.0, 2.0, 2.0, 3.0, 5.0, 5.0, 5.0])  # ties, so ranks of a half
    signs = np.array(list(product((-1, 1), repeat=7)))
    plus = (signs > 0) @ np.arange(1, 8)  # without ties, as SciPy 1.7.3 counts
    for sign in signs[::9]:
        found = published_signed_rank(list(sizes * sign), [0.0] * 7)
        at = int(stats.rankdata(sizes)[sign > 0].sum())
        slow = 2 * min(np.mean(plus <= at), np.mean(plus >= at))
        assert found.p == pytest.approx(min(1.0, float(slow)))


def test_published_agrees_with_scipy_where_both_are_normal() -> None:
    random = np.random.default_rng(2)
    x = random.integers(-3, 6, size=40).astype(float)  # zeros and ties
    wanted = stats.wilcoxon(x, method="asymptotic")
    found = published_signed_rank(list(x), [0.0] * 40)
    assert found.p == pytest.approx(wanted.pvalue)
    assert found.statistic == wanted.statistic


def test_published_cuts_to_the_shorter_column_and_the_other_refuses() -> None:
    a, b = [1.0, 2.0, 4.0, 9.0], [0.0, 0.5, 1.0]
    assert published_signed_rank(a, b) == published_signed_rank(a[:3], b)
    with pytest.raises(DataError, match="expected paired values, got 4 and 3"):
        signed_rank(a, b)


def test_a_value_that_is_not_finite_is_refused() -> None:
    for test in (signed_rank, published_signed_rank):
        with pytest.raises(DataError, match="expected finite values, got nan"):
            test([1.0, float("nan")], [0.0, 0.0])


# --- all pairs ---------------------------------------------------------------------------------


def test_between_has_every_pair_once_in_the_order_of_the_keys() -> None:
    columns = {key: [1.0 * key, 2.0, 3.5] for key in (-1, 0, 3)}
    assert list(ranks.between(columns)) == [(-1, 0), (-1, 3), (0, 3)]


def test_holm_multiplies_the_smallest_by_the_number_of_pairs() -> None:
    tests = ranks.between(shifted(0.5, 0.52, 0.6))
    adjusted = ranks.holm_p(tests)
    least = min(tests, key=lambda pair: tests[pair].p)
    assert adjusted[least] == pytest.approx(3 * tests[least].p)
    assert all(adjusted[pair] >= tests[pair].p for pair in tests)


def test_published_ranks_put_the_best_group_first() -> None:
    assert ranks.published_ranks(shifted(0.5, 0.5, 0.7, 0.9)) == {0: 3, 1: 3, 2: 2, 3: 1}


def test_published_ranks_depend_on_the_order_of_the_cuts() -> None:
    random = np.random.default_rng(1)
    columns = {i: list(0.5 * i + random.normal(size=12)) for i in range(4)}
    found = {
        tuple(sorted(ranks.published_ranks({key: columns[key] for key in order}).items()))
        for order in permutations(columns)
    }
    assert len(found) > 1


def test_five_repeats_share_one_rank_and_one_letter_whatever_they_are() -> None:
    columns = shifted(0.1, 0.5, 0.9, n=5)
    assert set(ranks.published_ranks(columns).values()) == {1}
    assert set(ranks.letters(columns, corrected=False).values()) == {"a"}
    assert ranks.between(columns)[0, 2].smallest_p == 0.0625


def test_letters_by_hand() -> None:
    # of 36, the smaller rank sum is 0 for low and high (p 2/256), 6 and 7.5 for middle and either
    ahead = (2.0, -0.6, 1.9, -0.5, 0.7, 2.2, -0.3, 1.0)
    columns = {"low": [0.0] * 8, "middle": list(ahead), "high": [1.5] * 8}
    assert ranks.letters(columns, corrected=False) == {"low": "b", "middle": "ab", "high": "a"}


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_columns_share_a_letter_exactly_where_no_test_tells_them_apart(
    corrected: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    columns = {i: list(0.4 * i + random.normal(size=14)) for i in range(7)}
    tests = ranks.between(columns)
    p = ranks.holm_p(tests) if corrected else {pair: test.p for pair, test in tests.items()}
    shown = ranks.letters(columns, corrected=corrected)
    assert any(value < 0.05 for value in p.values())
    for a, b in combinations(columns, 2):
        assert bool(set(shown[a]) & set(shown[b])) == (p[a, b] >= 0.05)


def test_letters_are_the_largest_sets_of_columns_that_are_alike() -> None:
    columns = {i: list(v) for i, v in enumerate(np.random.default_rng(3).normal(size=(6, 9)))}
    columns = {i: [v + 0.5 * i for v in values] for i, values in columns.items()}
    tests = ranks.between(columns)

    def alike(group: tuple[int, ...]) -> bool:
        return all(tests[pair].p >= 0.05 for pair in combinations(group, 2))

    cliques = [set(g) for size in range(1, 7) for g in combinations(columns, size) if alike(g)]
    wanted = [g for g in cliques if not any(g < other for other in cliques)]
    shown = ranks.letters(columns, corrected=False)
    found = [{k for k in columns if x in shown[k]} for x in sorted(set("".join(shown.values())))]
    assert sorted(map(sorted, found)) == sorted(map(sorted, wanted))


# --- two settings ------------------------------------------------------------------------------


def test_settings_name_the_higher_one_where_they_differ() -> None:
    base = shifted(0.5, 0.5, 0.5)
    other = {0: base[0], 1: [v + 0.1 for v in base[1]], 2: [v - 0.1 for v in base[2]], 9: [0.0]}
    found = ranks.settings_test(base, other)
    assert {key: contrast.higher for key, contrast in found.items()} == {
        0: "none",
        1: "second",
        2: "first",
    }
    assert found[1].p == pytest.approx(3 * found[1].test.p)  # Holm among three cuts
    assert ranks.settings_test(base, other, corrected=False)[1].p == found[1].test.p


def test_settings_without_a_cut_in_common_are_refused() -> None:
    with pytest.raises(DataError, match=r"keys that both settings have, got \[0\] and \[1\]"):
        ranks.settings_test({0: [1.0, 2.0]}, {1: [1.0, 2.0]})
