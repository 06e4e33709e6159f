"""What of a preset's grid of cuts has not been run, and the hours it would take.

The hours come from the multiplications of a cell and from what ``benchmarks/cuts.py`` measured for
one cell of known size, on the hardware that its report names. They are a guide: early stopping
shortens a run, and networks of few channels reach less of a processor's throughput.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carryover.adapt.cut import RULES
from carryover.claims.runs import share
from carryover.original_sets import PAIRS, VALIDATION_SHARE
from carryover.rows import Row

BENCH = Path("reports/bench/cuts.json")
BENCHED = 0.001  # the fraction of the cell that is measured there: FR, 7 cuts, 25 repeats
SIDES = {"cifar10": (3, 32)}  # channels and pixels a side of the images; (1, 28) elsewhere


def not_run(
    values: Mapping[str, Any],
    benched: Mapping[str, Any],
    rows: Iterable[Row],
    settings: Sequence[str],
) -> list[str]:
    """A line a setting, such as ``fr: 50 of 175 runs at 10 %, about 1.2 h; ...``.

    Args:
        values: the preset's parameters.
        benched: those of the preset that the benchmark ran (published).
        rows: what has been run, of the preset's pair.
        settings: of the grid to look at.
    """
    study = values["cuts"]
    done = {(row.item, row.cell["fraction"], row.cell["cut"], row.cell["repeat"]) for row in rows}
    rate = _rate(benched)
    lines = []
    for setting in settings:
        same = setting == "baseline" and study["seeding"] == "repeat"
        parts = []
        cuts = (-1,) if setting == "baseline" else study["cuts"]
        for fraction, repeats in zip(study["fractions"], study["repeats"], strict=True):
            missing = {
                cut: sum((setting, fraction, cut, i) not in done for i in range(repeats))
                for cut in cuts
            }
            trained = missing if setting != "none" else dict(list(missing.items())[:1])
            work = sum(
                n * multiplications(values, setting, cut, fraction) for cut, n in trained.items()
            )
            if not work:
                continue
            time = f", about {work / rate:.1f} h" if rate and not same else ""
            runs = f"{sum(missing.values())} of {repeats * len(cuts)} runs"
            parts.append(f"{runs} at {share(fraction)}{time}")
        if parts:
            note = " (the same runs as fr at cut 0)" * same
            lines.append(f"{setting}{note}: {'; '.join(parts)}")
    return lines


def multiplications(values: Mapping[str, Any], setting: str, cut: int, fraction: float) -> float:
    """Multiplications of one training at a cut: forward, backward, evaluation.

    The outputs of frozen layers are taken as made before, and removed ones cost nothing. A backward
    pass costs two forward passes, for the first layer that trains one. Without frozen or reset
    layers a cut changes nothing: such networks are trained once for all cuts.
    """
    study = values["cuts"]
    pair = PAIRS[study["pair"].removesuffix("-seed-era")]
    classes = len(study["classes"])
    images = sum(pair.images[0][c] for c in study["classes"])
    held = int(VALIDATION_SHARE * images)
    trained = int((images - held) * fraction / classes) * classes
    part = 0 if study["test_on"] == "train" else 1
    tested = sum(pair.images[part][c] for c in study["classes"])
    batch = min(study["batch_size"], trained)
    steps = -(-trained // batch) * study["epochs"]
    steps = min(steps, study["max_updates"]) if study["max_updates"] else steps
    validations = study["epochs"]
    if study["evaluate_every"]:
        validations = -(-steps // study["evaluate_every"])
    layers = _layers(values, max(cut, 0), setting)
    forward = sum(layers)
    seen = min(steps * batch, study["epochs"] * trained)
    return seen * (3 * forward - layers[0]) + forward * (
        (validations + 1) * held + tested + trained
    )


def _layers(values: Mapping[str, Any], cut: int, setting: str) -> list[float]:
    """Multiplications an image of each convolution that trains, and of the head."""
    rule = RULES[setting]
    study = values["cuts"]
    network = values["pretrain"][study["pretrained"]]["network"]
    inputs, side = SIDES.get(study["pair"], (1, 28))
    found = []
    for i in range(cut if rule.truncate else network["depth"]):
        found.append(float(side**2 * network["kernel"] ** 2 * inputs * network["channels"]))
        inputs = network["channels"]
        if network["pool_every"] and (i + 1) % network["pool_every"] == 0:
            side = (side - 2) // network["pool_stride"] + 1
    width = network["hidden"] or len(study["classes"])
    return [*found[cut if rule.freeze else 0 :], float(side**2 * inputs * width)]


def _rate(benched: Mapping[str, Any]) -> float:
    """Multiplications an hour as measured, 0 where nothing was."""
    if not BENCH.exists():
        return 0.0
    hours = json.loads(BENCH.read_text())["float32"]["hours"]["median"]
    cell = sum(25 * multiplications(benched, "fr", cut, BENCHED) for cut in range(7))
    return cell / hours
