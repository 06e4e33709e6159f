from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from carryover.claims import published, released
from carryover.claims.choice import best, bootstrap, leave_one_out, rank_correlations, shares
from carryover.claims.cuts import CLAIMS, verdicts
from carryover.claims.verdicts import Check, Verdict, drawn, from_checks, paired
from carryover.errors import DataError
from carryover.measure.statistics import Interval
from carryover.rows import Row
from conftest import REPOSITORY

FOLDER = REPOSITORY / "claims" / "released"
CUTS = (0, 1, 2, 3, 4)
LITTLE, MUCH = 0.01, 1.0
AGREE, DISAGREE = "released data agree", "released data disagree"


@pytest.fixture(scope="module")
def theirs() -> list[Row]:
    return released.rows(FOLDER / "cuts.csv") + released.cluster_rows(FOLDER / "clusters.csv")


@pytest.fixture(scope="module")
def decided(theirs: list[Row]) -> dict[tuple[str, str], Verdict]:
    return {(verdict.claim, verdict.pair): verdict for verdict in verdicts(theirs)}


def row(setting: str, fraction: float, cut: int, repeat: int, value: float, n: int = 1000) -> Row:
    return Row(
        study="cuts",
        item=setting,
        preset="mini",
        cell={"pair": "digits", "fraction": fraction, "cut": cut, "repeat": repeat},
        split="test",
        metric="accuracy",
        value=value,
        n=n,
        data="d",
        weights="w",
        params="p",
        source="s",
        precision="float32",
    )


def both(found: Row) -> list[Row]:
    return [found, replace(found, split="train")]


def runs(
    accuracy: Callable[[str, float, int], float], settings: Sequence[str], n: int
) -> list[Row]:
    """Rows of `n` repeats that scatter around an accuracy, repeat by repeat alike everywhere."""
    noise = np.random.default_rng(1).normal(0, 0.01, n)
    own = np.random.default_rng(2)
    return [
        made
        for setting in ("baseline", *settings)
        for fraction in (LITTLE, MUCH)
        for cut in ((-1,) if setting == "baseline" else CUTS)
        for repeat in range(n)
        for value in [
            float(accuracy(setting, fraction, cut) + noise[repeat] + own.normal(0, 0.001))
        ]
        for made in both(row(setting, fraction, cut, repeat, value))
    ]


def as_claimed(setting: str, fraction: float, cut: int) -> float:
    """Reuse gains 10 points with little data, cut 3 best; 1 with much, cut 1 best."""
    if setting == "baseline":
        return 0.5 if fraction == LITTLE else 0.9
    peak, gain = (3, 0.1) if fraction == LITTLE else (1, 0.01)
    value = (0.5 if fraction == LITTLE else 0.9) + gain - 0.02 * abs(cut - peak)
    if setting == "f":
        value += 0.03 if cut < 2 else -0.03 if cut in (3,) else 0
    return value + (0.005 if setting == "ft" and cut < 4 else 0)


def otherwise(setting: str, fraction: float, cut: int) -> float:
    """Nothing as claimed: reuse pays with much data alone, most when everything is frozen."""
    if setting == "baseline":
        return 0.5
    gain = -0.02 + 0.01 * (4 - cut) if fraction == LITTLE else 0.1 + 0.02 * cut
    return 0.5 + gain + {"f": 0.02 * (cut - 2), "ft": -0.05, "fr": 0.0}[setting]


def clusters(best_layer: int, n: int) -> list[Row]:
    rise = np.random.default_rng(4).normal(0, 0.001, n)
    return [
        replace(
            row(
                "agglomerative",
                fraction,
                0,
                repeat,
                float(0.5 - 0.1 * abs(i - best_layer) + rise[repeat]),
            ),
            study="clusters",
            metric="ari",
            split="train",
            cell={"pair": "digits", "method": "agglomerative", "images": "finetune"}
            | {"fraction": fraction, "repeat": repeat, "layer": f"conv{i}"},
        )
        for fraction in (LITTLE, MUCH)
        for i in range(4)
        for repeat in range(n)
    ]


def one(rows: list[Row], claim: str) -> Verdict:
    found = [verdict for verdict in verdicts(rows) if verdict.claim == claim]
    assert len(found) == 1
    return found[0]


# --- choosing a cut ----------------------------------------------------------------------------


def test_leave_one_out_by_hand() -> None:
    table = np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.3]])
    # without repeat 0 the second line leads, without 1 and 2 the first
    assert best(table) == 0
    assert leave_one_out(table, table).tolist() == [0.3, 0.1, 0.2]


def test_a_cut_is_chosen_by_other_images_where_there_are_any() -> None:
    table = np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.3]])
    by = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    assert leave_one_out(table, by).tolist() == [0.3, 0.4, 0.3]
    rows = runs(as_claimed, ("fr",), 12)
    shallow = [  # on validation images cut 1 is best everywhere
        replace(r, split="validation", value=0.5 - 0.1 * abs(r.cell["cut"] - 1))
        for r in rows
        if r.split == "test"
    ]
    tested, validated = one(rows, "T2"), one(rows + shallow, "T2")
    assert (tested.value, validated.value) == pytest.approx((0.1, 0.06), abs=0.002)
    assert "on the others' validation images" in validated.test
    assert "chosen on the others' test images" in tested.test
    assert "cut 1, chosen" in validated.reason
    published_ = [replace(r, preset="published") for r in rows + shallow]
    assert one(published_, "T2").value == pytest.approx(tested.value)
    assert one(rows + shallow, "T1").value == 0  # the same cut with little data and with much
    assert one(rows + shallow[:-1], "T2").value == pytest.approx(tested.value)  # one is missing


def test_one_of_several_checks_fails_only_beyond_their_number() -> None:
    def check(value: float, p: float) -> Check:
        half = 0.01 if p < 0.05 else 2 * abs(value)
        return Check("gain", Interval(value, value - half, value + half), "above", 0.0, p)

    good = check(0.05, 0.001)
    for p, decided in ((0.004, True), (0.02, False)):
        found = from_checks([good, good, good, check(-0.05, p)], "t")
        assert (found.holds, found.decided) == (False, decided)
        assert found.p == pytest.approx(4 * p)
        assert found.headline.value == -0.05
    assert from_checks([good, good], "t").decided
    assert not from_checks([good, check(0.05, 0.3)], "t").decided


def test_leave_one_out_takes_the_winners_curse_away() -> None:
    generator = np.random.default_rng(0)
    tables = generator.normal(0, 1, (2000, 6, 5))
    assert np.mean([table.mean(axis=1).max() for table in tables]) > 0.5
    assert abs(np.mean([leave_one_out(table, table).mean() for table in tables])) < 0.03


def test_bootstrap_draws_the_same_repeats_for_all_cuts() -> None:
    table = np.arange(5) + 10.0 * np.arange(3)[:, None]
    drawn = bootstrap(table, 50, np.random.default_rng(0))
    assert drawn.shape == (50, 3, 5)
    assert np.array_equal(drawn[:, 1] - drawn[:, 0], np.full((50, 5), 10.0))
    assert len(np.unique(drawn[:, 0])) == 5


def test_rank_correlations_agree_with_scipy_and_are_0_for_a_constant() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(4, size=(20, 5)).astype(float), generator.normal(size=(20, 5))
    x[0] = 3.0
    found = rank_correlations(x, y)
    assert found[0] == 0
    assert found[1:] == pytest.approx(
        [stats.spearmanr(a, b).statistic for a, b in zip(x[1:], y[1:], strict=True)]
    )


def test_shares_lists_the_frequent_first() -> None:
    assert shares(np.array([2, 2, 2, 0]), [4, 5, 6]) == {6: 0.75, 4: 0.25}


def test_a_bootstrap_gives_no_p_below_two_of_its_draws() -> None:
    draws = np.full(2000, -1.0)
    assert drawn("rho", -1.0, draws, "below").p == pytest.approx(2 / 2001)
    draws[:60] = 1.0
    check = drawn("rho", -0.9, draws, "below")
    assert check.p == pytest.approx(2 * 61 / 2001)
    assert not check.decided


def test_a_difference_by_repeat_has_students_p() -> None:
    a, b = np.array([0.91, 0.93, 0.9, 0.95, 0.92]), np.array([0.9, 0.9, 0.91, 0.91, 0.9])
    check = paired("gain", a, b, "above", 0.005)
    expected = stats.ttest_1samp(a - b, 0.005)
    assert check.p == pytest.approx(expected.pvalue)
    ends = stats.ttest_1samp(a - b, 0).confidence_interval(0.95)
    assert (check.interval.low, check.interval.high) == pytest.approx((ends.low, ends.high))


# --- the released results ----------------------------------------------------------------------


def test_released_data_decide_each_claim_as_the_originals_notes_do(
    decided: dict[tuple[str, str], Verdict],
) -> None:
    for pair in published.PAIRS:
        for claim in ("T1", "T2", "T3", "T4", "T9", "T10"):
            assert decided[claim, pair].verdict == AGREE, (claim, pair)
    assert decided["T5", "fashion-mnist"].verdict == AGREE
    assert decided["T6", "cifar10"].verdict == DISAGREE
    assert decided["T7", "fashion-mnist"].verdict == AGREE
    assert decided["T8", "fashion-mnist"].verdict == DISAGREE
    assert decided["T11", "fashion-mnist"].verdict == AGREE
    assert decided["T11", "cifar10"].verdict == DISAGREE
    assert {verdict.claim for verdict in decided.values()} == set(CLAIMS)


def test_the_seed_eras_fractions_all_count_where_every_cut_was_released(
    decided: dict[tuple[str, str], Verdict],
) -> None:
    for pair, runs in (("mnist-seed-era", 155), ("fashion-mnist-seed-era", 175)):
        assert "at 80 %, n = 5" in decided["T4", pair].reason
        assert decided["T10", pair].test.startswith(f"equality of {runs} runs")


@pytest.mark.parametrize("pair", published.PAIRS)
def test_recomputed_figures_are_the_published_ones(
    decided: dict[tuple[str, str], Verdict], pair: str
) -> None:
    listed = ", ".join(map(str, published.BEST_CUTS[pair]))
    assert f"best cuts {listed} at 0.1 %" in decided["T1", pair].reason
    gains = published.GAINS[pair]
    assert decided["T2", pair].value == pytest.approx(gains[0.001], abs=6e-4)
    assert decided["T3", pair].value == pytest.approx(gains[1.0], abs=6e-5)
    assert decided["T4", pair].value == pytest.approx(published.ALL_FROZEN[pair][1.0], abs=6e-4)
    assert "smallest signed-rank p 0.0625 of 56" in decided["T9", pair].reason
    assert decided["T10", pair].reason.endswith(
        ": test accuracies of 80 of 80 runs equal, train of 80"
    )


def test_what_settings_share_is_seen_in_the_runs(
    decided: dict[tuple[str, str], Verdict],
) -> None:
    cifar, fashion = decided["T11", "cifar10"].reason, decided["T11", "fashion-mnist"].reason
    assert "test accuracies of 0 of 80 runs equal, train of 80" in cifar
    assert "tested on different images (6000 and 30000)" in cifar
    assert "FR, F, FT at cut 6: test accuracies of 160 of 160 runs equal, train of 160" in fashion
    invalid = decided["T6", "cifar10"]
    assert "invalid as published" in invalid.reason
    assert "train accuracies of 80 of 80 runs are equal" in invalid.reason
    assert "+0.0362 at 100 %" in invalid.reason
    assert invalid.value == pytest.approx(10 / 18)  # the share that looked like an advantage
    assert "settings on the same test images" in decided["T5", "cifar10"].reason


def test_truncation_counts_the_weights_of_the_published_network() -> None:
    assert published.weights("fashion-mnist", 6) == 187_011
    assert published.weights("cifar10", 6) == 192_582
    assert published.weights("fashion-mnist", 1) == 640 + 150_531  # the linear head is most of it


def test_clusters_are_best_where_accuracy_is_not(decided: dict[tuple[str, str], Verdict]) -> None:
    found = decided["T8", "fashion-mnist"]
    assert found.high is not None
    assert found.high < 0
    for median, fraction in ((0.324, "0.1 %"), (0.214, "1 %"), (0.210, "10 %"), (0.271, "100 %")):
        assert f"{fraction} (n = " in found.reason
        assert f"ARI highest at conv1 ({median:.3f})" in found.reason


# --- our rows ----------------------------------------------------------------------------------


def test_rows_as_claimed_reproduce_every_claim_of_accuracy() -> None:
    rows = runs(as_claimed, ("fr", "f", "ft"), 12) + clusters(2, 12)
    found = {verdict.claim: verdict for verdict in verdicts(rows)}
    for claim in ("T1", "T2", "T3", "T4", "T5", "T7"):
        assert found[claim].verdict == "reproduced", found[claim]
    assert found["T1"].value == -1
    gain = found["T2"]
    assert gain.value == pytest.approx(0.1, abs=0.002)
    assert gain.low is not None
    assert gain.low > published.A_LOT
    assert found["T9"].verdict == "not reproduced"  # twelve repeats can tell cuts apart
    assert found["T10"].verdict == "not reproduced"


def test_rows_that_say_otherwise_reproduce_nothing() -> None:
    rows = runs(otherwise, ("fr", "f", "ft"), 12)
    rows += [r for r in clusters(3, 12) if r.cell["fraction"] == LITTLE]
    rows += [r for r in clusters(0, 12) if r.cell["fraction"] == MUCH]
    found = {verdict.claim: verdict.verdict for verdict in verdicts(rows)}
    assert found == dict.fromkeys(CLAIMS, "not reproduced") | {"T6": "inconclusive"}


def test_truncation_is_compared_on_networks_that_agree_at_full_depth() -> None:
    rows = runs(as_claimed, ("fr", "ft"), 12)
    other = one(rows, "T6")
    assert other.verdict == "inconclusive"
    assert "at cut 4 FT and FR are NOT equal run by run" in other.reason
    deepest = {
        (r.cell["fraction"], r.cell["repeat"], r.split): r.value
        for r in rows
        if r.item == "fr" and r.cell["cut"] == 4
    }
    shared = [
        replace(r, value=deepest[r.cell["fraction"], r.cell["repeat"], r.split])
        if r.item == "ft" and r.cell["cut"] == 4
        else r
        for r in rows
    ]
    found = one(shared, "T6")
    assert (found.verdict, found.value) == ("reproduced", 1.0)
    assert one(shared, "T11").verdict == "reproduced"
    assert one(rows, "T11").verdict == "not reproduced"


def test_other_test_images_leave_settings_undecided() -> None:
    rows = [replace(r, n=500) if r.item == "ft" else r for r in runs(as_claimed, ("fr", "ft"), 6)]
    for claim in ("T5", "T6"):
        found = one(rows, claim)
        assert found.verdict == "not run"
        assert "settings on the same test images" in found.reason


def test_layers_with_the_best_clusters_can_be_those_that_transfer() -> None:
    """Cut 3 keeps conv0 to conv2, cut 1 conv0 alone."""
    rows = runs(as_claimed, ("fr",), 12)
    little = [r for r in clusters(2, 12) if r.cell["fraction"] == LITTLE]
    much = [r for r in clusters(0, 12) if r.cell["fraction"] == MUCH]
    found = one(rows + little + much, "T8")
    assert found.verdict == "reproduced"
    assert found.value == pytest.approx(1, abs=0.05)  # equal accuracies at conv1 and conv3
    assert one(rows + clusters(3, 12), "T8").verdict != "reproduced"


def test_five_repeats_leave_differences_open_not_denied() -> None:
    def same(setting: str, fraction: float, cut: int) -> float:
        return 0.5

    few, many = one(runs(same, ("fr",), 5), "T9"), one(runs(same, ("fr",), 12), "T9")
    assert few.verdict == "inconclusive"
    assert "smallest attainable 0.0625: the test cannot find a difference" in few.reason
    assert many.verdict == "reproduced"


def test_missing_cells_are_named() -> None:
    rows = [
        r
        for r in runs(as_claimed, ("fr", "f"), 3)
        if not (r.item == "f" and r.cell["fraction"] == MUCH and r.cell["cut"] > 2)
    ]
    found = one(rows, "T7")
    assert (found.verdict, found.value) == ("not run", None)
    assert found.reason == "not run: f at 100 % (cut 3, 4)"
    assert {verdict.claim for verdict in verdicts(rows)} == set(CLAIMS) - {"T5", "T6", "T8"}


def test_a_baseline_alone_decides_nothing() -> None:
    found = verdicts(runs(as_claimed, (), 3))
    assert {verdict.verdict for verdict in found} == {"not run"}
    assert "two cuts of fr" in found[0].reason


def test_a_published_pair_lacks_what_was_published_for_it() -> None:
    rows = [replace(r, cell=r.cell | {"pair": "mnist"}) for r in runs(as_claimed, ("fr",), 3)]
    assert "baseline at 0.1 %" in one(rows, "T2").reason
    assert one(rows, "T10").verdict == "not run"


def test_equal_rows_give_equal_verdicts() -> None:
    rows = runs(as_claimed, ("fr", "ft"), 6)
    assert verdicts(rows) == verdicts(rows[::-1])


def test_refuses_two_values_for_a_repeat_and_two_origins(theirs: list[Row]) -> None:
    rows = runs(as_claimed, ("fr",), 2)
    with pytest.raises(DataError, match="expected one accuracy a repeat, got two for baseline"):
        verdicts([*rows, rows[0]])
    with pytest.raises(DataError, match="expected released rows or others, got both"):
        verdicts([*rows, *theirs])
