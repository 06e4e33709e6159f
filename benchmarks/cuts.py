"""The cut study's engine against a plain re-creation of the original's loop.

One cell of the published study: MNIST 5-9, FR, 0.1 % of the images (25), seven cuts, 25 repeats,
40 epochs without early stopping, validation on 2,940 images every epoch, the best weights tested on
29,404. Both start from the same networks and images and are timed in turns on a slice (all cuts,
two repeats, three epochs, a twentieth of the test images); the whole cell is extrapolated linearly
in epochs, repeats and test images. What they learn is compared, network by network: with full
batches every epoch is one update, so that accuracies must agree.

    make bench                                  # data.root of params.yaml, or DATA=FOLDER
    python benchmarks/cuts.py --root FOLDER --turns 5

The original's loop is in ``cuts_peer.py``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import turns
from carryover.config import params as config
from carryover.data import store
from carryover.errors import DataError
from carryover.models.cnn import cnn
from carryover.parallel import spread
from carryover.prefix import Prefix, extended
from carryover.prepare import prepare
from carryover.presets import tree
from carryover.pretrain.supervised import budget, channels_last, normalised
from carryover.studies import cuts as study
from carryover.transfer import Task, prepared
from cuts_peer import Digits, peer

CLASSES, CUTS = (5, 6, 7, 8, 9), range(7)
REPEATS, EPOCHS, FRACTION = 25, 40, 0.001
KEPT, HELD = 26464, 2940  # training and validation images of MNIST 5-9
SLICE = 1470  # test images of a turn
SLICE_REPEATS, SLICE_EPOCHS, CORES = 2, 3, 2
NEAR = 0.005  # accuracies of both loops in float32 may differ by so much: a few images
MULTIPLICATIONS = 47_419_200  # of one image: six convolutions and the head


def ours(params: config.Params, task: Task, cut: int, prefix: Prefix) -> tuple[float, Any]:
    """Seconds to train two repeats at a cut, and the numbers of each."""
    found: list[Any] = []
    cells = [(FRACTION, cut, repeat) for repeat in range(SLICE_REPEATS)]

    def work(unit: tuple[study.Cell, ...]) -> Any:
        return study.train(params, "fr", task, prefix, unit, Path("none.pt"))

    def run() -> None:
        units = study.units(params.cuts, "fr", task, prefix, cells)
        for unit, numbers in spread(work, units, CORES):
            found.extend(zip(unit, numbers, strict=True))

    return turns.seconds(run), [numbers for _, numbers in sorted(found)]


def cell_seconds(params: config.Params, task: Task) -> tuple[list[float], list[float]]:
    """Seconds of the whole cell by cut, extrapolated; and the test accuracies of the slice."""
    prefix, found, tests = Prefix(0, task.images), [], []
    for cut in CUTS:
        have = [prefix]
        making = turns.seconds(
            lambda cut=cut, have=have: have.append(
                extended(have[0], task.start, cut, params.cuts.precision, CORES)
            )
        )
        prefix = have[-1]
        one, _ = ours(with_epochs(params, 1), task, cut, prefix)
        all_, numbers = ours(with_epochs(params, SLICE_EPOCHS), task, cut, prefix)
        epoch = max(0.0, all_ - one) / (SLICE_EPOCHS - 1)
        fixed = max(0.0, one - epoch) * (HELD + KEPT + HELD) / (HELD + SLICE)
        found.append(making + REPEATS / SLICE_REPEATS * (fixed + EPOCHS * epoch))
        tests += [value for each in numbers for split, _, value, _ in each if split == "test"]
    return found, tests


def peer_seconds(
    params: config.Params, task: Task, pixels: np.ndarray, labels: np.ndarray
) -> tuple[list[float], list[float]]:
    """The same of the original's loop, on all cores."""
    found, tests = [], []
    for cut in CUTS:
        trainings = []
        for repeat in range(SLICE_REPEATS):
            training = prepared(params, "fr", task, Prefix(0, task.images), (FRACTION, cut, repeat))
            network = training.network.to(memory_format=torch.contiguous_format)
            chosen = training_images(params, task, repeat)
            parts = {
                "train": Digits(pixels[chosen], labels[chosen], CLASSES),
                "validation": Digits(
                    pixels[KEPT : KEPT + HELD], labels[KEPT : KEPT + HELD], CLASSES
                ),
                "test": Digits(pixels[:SLICE], labels[:SLICE], CLASSES),
            }
            trainings.append((network, parts))

        def work(trainings: list[Any] = trainings) -> Any:
            accuracies: list[float] = []

            def run() -> None:
                for network, parts in trainings:
                    accuracies.append(peer(network, parts, SLICE_EPOCHS)[-1])

            return turns.seconds(run), accuracies

        taken, accuracies = turns.in_child(work, CORES)
        whole, timed = EPOCHS * HELD + KEPT + HELD, SLICE_EPOCHS * HELD + SLICE  # images evaluated
        found.append(REPEATS / SLICE_REPEATS * taken * whole / timed)
        tests += accuracies
    return found, tests


def training_images(params: config.Params, task: Task, repeat: int) -> Tensor:
    """Rows of the 25 images of a repeat."""
    from carryover.transfer import generators, training_rows

    sample, _ = generators(params, "fr", FRACTION, repeat)
    return training_rows(params.cuts, task.labels[task.parts["train"]], FRACTION, sample)


def with_epochs(params: config.Params, epochs: int) -> config.Params:
    return dataclasses.replace(params, cuts=dataclasses.replace(params.cuts, epochs=epochs))


def convolution_rate(precision: str) -> float:
    """FLOP/s of a 64-channel convolution on 28 px, one process a core: what the CPU can do."""
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(256, 64, 28, 28).to(memory_format=torch.channels_last)
    if precision == "bfloat16":
        layer, x = layer.bfloat16(), x.bfloat16()

    def work(_: int) -> float:
        with torch.no_grad():
            layer(x)
            return turns.seconds(lambda: [layer(x) for _ in range(8)])

    taken = [seconds for _, seconds in spread(work, range(CORES), CORES)]
    return sum(8 * 2 * 256 * 28 * 28 * 9 * 64 * 64 / seconds for seconds in taken)


def engine_rate(params: config.Params, task: Task) -> float:
    """FLOP/s of the engine on whole networks (cut 0), with a validation an epoch and one after."""
    taken, _ = ours(with_epochs(params, SLICE_EPOCHS), task, 0, Prefix(0, task.images))
    images = SLICE_REPEATS * ((SLICE_EPOCHS + 1) * HELD + SLICE)
    trained = SLICE_REPEATS * 25 * (SLICE_EPOCHS * 3 + 1)
    return (images + trained) * 2 * MULTIPLICATIONS / taken


def together(params: config.Params, task: Task) -> dict[str, float]:
    """Seconds of eight networks one by one over seconds of the same as stacks of four, by cut."""
    kept = slice(KEPT - 2646, KEPT + HELD)  # a tenth of the training images: quickly made outputs
    few = dataclasses.replace(
        task,
        images=task.images[kept],
        labels=task.labels[kept],
        parts={
            "train": slice(0, 2646),
            "validation": slice(2646, 2646 + HELD),
            "test": slice(0, 2646),
        },
    )
    mine = with_epochs(params, 2)
    prefix, found = Prefix(0, few.images), {}
    for cut, fraction in ((3, 0.01), (4, 0.01), (5, 0.01), (6, 0.01), (6, 1.0)):
        prefix = extended(prefix, few.start, cut, "float32", 0)
        beyond = study.KEPT_REPEATS  # their networks are not written
        cells = [(fraction, cut, repeat) for repeat in range(beyond, beyond + 8)]

        def train(*units: tuple[study.Cell, ...], prefix: Prefix = prefix) -> None:
            for unit in units:
                study.train(mine, "fr", few, prefix, unit, Path("none.pt"))

        apart = turns.seconds(lambda cells=cells: train(*((cell,) for cell in cells)))
        fours = [tuple(cells[:4]), tuple(cells[4:])]
        stacked = turns.seconds(lambda fours=fours: train(*fours))
        found[f"cut {cut}, {len(few.labels[:2646]) * fraction:.0f} images"] = apart / stacked
    return found


def load(root: str) -> tuple[Task, np.ndarray, np.ndarray, str]:
    """MNIST 5-9 in the original's numbers; scikit-learn's digits repeated where it is not there."""
    data = dataclasses.replace(config.read(Path("params.yaml")).data, root=root, digits_size=28)
    name, folder = "mnist", Path(".scratch/bench")
    try:
        prepare(data, name, 0, download=False, out=folder / name)
    except DataError:
        name = "digits"
        prepare(data, name, 0, download=False, out=folder / name)
    images = store.load(folder / name, "train").of_classes(CLASSES, "classes")
    rows = torch.arange(KEPT + HELD) % len(images)
    images = images.select(rows)
    pixels = (images.floats(torch.arange(len(rows)))[:, 0] * 255).round().byte().numpy()
    network = cnn(
        depth=6,
        channels=64,
        kernel=3,
        activation="relu",
        pool_every=2,
        pool_stride=2,
        hidden=0,
        image_shape=(1, 28, 28),
        classes=5,
        generator=torch.Generator().manual_seed(0),
    )
    task = Task(
        images=normalised(images, torch.device("cpu")),
        labels=images.labels,
        parts={
            "train": slice(0, KEPT),
            "validation": slice(KEPT, KEPT + HELD),
            "test": slice(0, SLICE),
        },
        start=channels_last(network),
        classes=5,
        data="",
        weights="",
    )
    return task, pixels, images.labels.numpy() + 5, f"{name}, {len(set(rows.tolist()))} images"


def main() -> None:
    """Time both in turns and write ``reports/bench/cuts.json``."""
    options = turns.parser(__doc__, "folder with MNIST; params.yaml's by default").parse_args()
    torch.set_num_threads(1)
    root = options.root or config.read(Path("params.yaml")).data.root or "data/raw"
    task, pixels, labels, what = load(root)
    values = tree("published")
    params = config.parse(values, "preset published")
    all_epochs = dataclasses.replace(params.cuts, patience=0, restore_best="always")
    params = dataclasses.replace(params, cuts=all_epochs)
    if not all(budget(params.cuts).can_matter(0, epoch) for epoch in range(EPOCHS)):
        raise SystemExit("cuts: expected a validation every epoch in both loops, ours leaves some")
    times: dict[str, list[list[float]]] = {"peer": [], "float32": [], "bfloat16": []}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    apart: dict[str, np.ndarray] = {}  # accuracies less the peer's; equal in all turns
    for turn in range(options.turns):
        taken, theirs = peer_seconds(params, task, pixels, labels)
        times["peer"].append(taken)
        for precision, found in rates.items():
            chosen = dataclasses.replace(params.cuts, precision=precision)
            mine = dataclasses.replace(params, cuts=chosen)
            taken, tests = cell_seconds(mine, task)
            times[precision].append(taken)
            found.append(engine_rate(mine, task) / convolution_rate(precision))
            apart[precision] = np.array(tests) - np.array(theirs)
        print(f"turn {turn + 1} of {options.turns}", flush=True)
    summary: dict[str, Any] = {
        "what": f"cuts, FR at 0.1 %, 7 cuts, 25 repeats, 40 epochs; {what}",
        "extrapolated": f"from {SLICE_EPOCHS} epochs of {SLICE_REPEATS} repeats at all cuts, by "
        "images; ours by epochs too (a run of one beside)",
    }
    for precision in rates:
        ratios = [sum(p) / sum(o) for p, o in zip(times["peer"], times[precision], strict=True)]
        deep = [
            sum(p[4:]) / sum(o[4:]) for p, o in zip(times["peer"], times[precision], strict=True)
        ]
        summary[precision] = {
            "hours": turns.spread([sum(t) / 3600 for t in times[precision]]),
            "ratio": turns.spread(ratios),
            "ratio_cuts_4_to_6": turns.spread(deep),
            "share_of_convolution_throughput": turns.spread(rates[precision]),
            "test_accuracy_less_peers": {
                "networks": len(apart[precision]),
                "mean": float(apart[precision].mean()),
                "largest": float(np.abs(apart[precision]).max()),
            },
        }
    summary["one_by_one_over_together"] = together(params, task)
    summary["peer_hours"] = turns.spread([sum(t) / 3600 for t in times["peer"]])
    path = turns.write("cuts", summary)
    print(f"cuts: peer {turns.said(summary['peer_hours'], 'h')}, extrapolated")
    for precision in rates:
        found = summary[precision]
        print(
            f"cuts, {precision}: ours {turns.said(found['hours'], 'h')}; whole cell "
            f"{turns.said(found['ratio'], 'x')}, cuts 4 to 6 "
            f"{turns.said(found['ratio_cuts_4_to_6'], 'x')}; of this CPU's convolution throughput "
            f"{turns.said(found['share_of_convolution_throughput'], '')}; test accuracies less "
            f"the peer's: mean {apart[precision].mean():+.4f}, largest "
            f"{abs(apart[precision]).max():.4f}"
        )
    stacks = summary["one_by_one_over_together"].items()
    print(
        "cuts, 8 networks, one by one over together: "
        + ", ".join(f"{k} {v:.2f} x" for k, v in stacks)
    )
    print(path)
    if np.abs(apart["float32"]).max() > NEAR:
        raise SystemExit("cuts: expected the accuracies of both loops to agree, they do not")


if __name__ == "__main__":
    main()
