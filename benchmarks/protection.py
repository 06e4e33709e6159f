"""How much OGD's directions protect a set that was trained before: a table of ``docs/ogd.md``.

The encoder of ``sequence.encoder`` learns one set, then another, at several rates, by fine-tuning
and by OGD with several kinds of directions. Told of the first set, before the second and after: how
far logits move on the images whose gradients are stored, and on others; and how many of the others
are named rightly.

    make bench
    python benchmarks/protection.py --updates 80
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import turns
from carryover.adapt.averaging import copied
from carryover.adapt.distill import unit_images, unit_texts
from carryover.adapt_start import Examples
from carryover.config.params import Params, read
from carryover.files import write_json
from carryover.sequence_carried import Carried, Cell, Place
from carryover.sequence_runs import places
from carryover.sequence_start import Start, Task, load_start
from carryover.sequence_training import train_task

OUT = Path("reports/bench/protection.json")
OTHERS = 300


class Setting(NamedTuple):
    """One line of the table."""

    rate: float
    method: str = "finetune"
    gradients: str = "label-logit"
    images: int = 20
    scope: str = "joint"


SETTINGS = (
    *(Setting(rate, *more) for rate in (1e-6, 1e-5, 1e-4) for more in ((), ("ogd",))),
    Setting(1e-4, "ogd", images=60),
    Setting(1e-4, "ogd", scope="tensor"),
    Setting(1e-4, "ogd", gradients="all-logits", images=10),
)


def with_setting(params: Params, setting: Setting) -> Params:
    """The parameters with OGD as a line has it."""
    ogd = replace(
        params.sequence.ogd,
        version="paper",
        gradients=setting.gradients,
        images=setting.images,
        scope=setting.scope,
    )
    return replace(params, sequence=replace(params.sequence, ogd=ogd))


@torch.no_grad()
def logits_of(start: Start, network: nn.Module, task: Task, images: Examples) -> Tensor:
    """Of some images with each class's first prompt, [n, classes]."""
    z = unit_images(network, images.images(torch.arange(len(images))))
    return start.encoder.logit_scale * z @ unit_texts(network, task.prompt_ids).T


def measured(params: Params, start: Start, setting: Setting, first: float) -> dict[str, float]:
    """One line: the first set at one rate, the second at the line's."""
    params = with_setting(params, setting)
    cell = Cell(setting.method, "1", 0)
    one, two = places(params.sequence, start, cell)
    network = copy.deepcopy(start.encoder.model)
    carried = Carried(copied(network.state_dict()))
    carried, tested = train_task(params, start, network, one, first, carried)
    network.load_state_dict(tested.weights)
    stored, others = parts_of(params, one, setting.images)
    before = [logits_of(start, network, one.task, images) for images in (stored, others)]
    _, tested = train_task(params, start, network, two, setting.rate, carried)
    network.load_state_dict(tested.weights)
    after = [logits_of(start, network, one.task, images) for images in (stored, others)]
    told: dict[str, float] = {}
    for name, images, old, new in zip(
        ("stored", "others"), (stored, others), before, after, strict=True
    ):
        moved = (new - old).abs()
        told[f"{name}_label"] = float(moved[torch.arange(len(moved)), images.labels].mean())
        told[f"{name}_all"] = float(moved.mean())
    for name, found in (("before", before[1]), ("after", after[1])):
        told[name] = float((found.argmax(1) == others.labels).double().mean())
    return told


def parts_of(params: Params, place: Place, stored: int) -> tuple[Examples, Examples]:
    """The images whose gradients OGD stores, as `Projected.directions_after` draws them; others."""
    rows = torch.randperm(len(place.examples), generator=place.drawn(params, "ogd"))
    largest = max(setting.images for setting in SETTINGS)
    others = rows[largest : largest + OTHERS]
    return place.examples.take(rows[:stored]), place.examples.take(others)


def main() -> None:
    """Measure every line and write ``reports/bench/protection.json``."""
    parser = turns.parser(__doc__, "not used: the sets are the prepared ones")
    parser.add_argument("--sets", nargs=2, default=["colours", "digits"], metavar="SET")
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--first", type=float, default=1e-4, help="rate of the first set")
    options = parser.parse_args()
    params = read(Path("params.yaml"))
    study = replace(
        params.sequence,
        datasets=tuple(options.sets),
        orders={"1": tuple(options.sets)},
        updates=options.updates,
    )
    params = replace(params, sequence=study)
    start = load_start(params, torch.device("cpu"), reference=False)
    lines = []
    for setting in SETTINGS:
        told = measured(params, start, setting, options.first)
        lines.append(setting._asdict() | told)
        print(json.dumps(lines[-1]), flush=True)
    write_json(OUT, {"sets": options.sets, "updates": options.updates, "lines": lines})


if __name__ == "__main__":
    main()
