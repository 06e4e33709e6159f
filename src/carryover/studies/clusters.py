"""Do images of a class lie together in a layer's features, before any training on them?

The pretrained network of the cut study is a fixed feature extractor. On the training subsets of
that study (same fractions, repeats and images), and on subsets of the images it was pretrained
on, each layer's features are clustered into as many clusters as there are labels: the mean of
each channel over space, agglomerative (final state of the original), and every channel by itself,
K-means (its seed era). ``dvc repro clusters`` writes ``reports/clusters/runs/all/rows.jsonl``:
adjusted Rand index, precision and recall over pairs and accuracy of the clusters by subset and
layer, and the effective rank of each weight tensor; and ``reports/clusters/tsne.csv``. The mini
preset takes 25 s and 1 GB on two cores.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619 (agglomerative, rank) and 02c3591 (K-means, t-SNE).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover import run
from carryover.config.clusters import Clusters
from carryover.files import write_text
from carryover.measure.clustering import (
    adjusted_rand,
    agglomerative,
    cluster_accuracy,
    contingency,
    not_zero,
    over_channels,
    pair_scores,
)
from carryover.measure.kmeans import kmeans, principal
from carryover.measure.spectrum import effective_rank
from carryover.measure.tsne import tsne
from carryover.models import saved
from carryover.models.outputs import layer_outputs
from carryover.parallel import end_round, own, spread
from carryover.prepare import refuse_stale
from carryover.pretrain import supervised
from carryover.report.tables import to_csv
from carryover.rows import Row, write_rows
from carryover.scratch import Scratch, alone
from carryover.subsets import Part, Sizes, load_part, sizes_of, subset

if TYPE_CHECKING:
    from carryover.config.params import Params

FOLDER = Path("reports/clusters")
SEED, RESTARTS = 42, 10  # of K-means and t-SNE, as published; scikit-learn's n_init of that time

Scores = list[tuple[str, int, dict[str, float]]]  # layer, images clustered, value by metric


@dataclass(frozen=True)
class Cell:
    """One clustering of all layers; `samples` is 0 where the whole subset is taken."""

    method: str
    images: str
    fraction: float
    repeat: int
    samples: int

    @property
    def name(self) -> str:
        """Its name in the scratch file."""
        return f"{self.method}/{self.images}/{self.fraction:g}/{self.repeat}/{self.samples}"


def stage(params: Params, item: str, context: run.Context) -> None:
    """Cluster every (method, images, fraction, repeat) and write its rows."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    study = params.clusters
    refuse_stale(params.data, study.dataset)
    device = run.device(run.chosen_device())
    folder = Path("data/models") / study.pretrained
    card = saved.read_card(folder)
    network = supervised.load(folder, card).to(device)
    parts: dict[str, Part] = {
        name: load_part(params, name, card, network, device) for name in study.images
    }
    sizes = sizes_of(study, parts)
    made_from = {
        "params": context.params,
        "source": context.source,
        "weights": card["weights"],
        "precision": "float32",
    }
    about = {"torch": torch.__version__, "device": device.type}
    data = {name: part.data for name, part in parts.items()}
    scratch = Scratch(context.stage, made_from | about | {"data": data})

    def work(cell: Cell) -> Scores:
        part = parts[cell.images]
        rows = subset(params, part, cell.fraction, cell.repeat, cell.samples)
        if cell.method == "agglomerative":
            return of_pooled(study, part, rows)
        return of_channels(study, network, part, rows, device)

    with (
        alone(f"{context.stage}.lock", f"`carryover run` of {context.stage}"),
        threadpool_limits(1),
    ):
        done = scratch.cells()
        several = cells(study, sizes)
        waiting = [cell for cell in own(several) if cell.name not in done]
        started = time.monotonic()
        with run.progress(context.stage, len(done) + len(waiting), len(done)) as advance:
            for method in study.methods:
                long_first = sorted(
                    (cell for cell in waiting if cell.method == method),
                    key=lambda cell: -cell.fraction,
                )
                for cell, scores in spread(work, long_first, processes(method, device, parts)):
                    scratch.add(cell.name, scores)
                    done[cell.name] = scores
                    advance()
        end_round(sum(cell.name not in done for cell in several))
        points = tsne_csv(params, network, parts, device)
        seconds = time.monotonic() - started
        rows = [
            Row(
                study="clusters",
                item="all",
                preset=study.preset,
                cell=axes(study, cell, layer),
                split="train",
                metric=metric,
                value=value,
                n=n,
                data=data[cell.images],
                **made_from,
            )
            for cell in several
            for layer, n, values in done[cell.name]
            for metric, value in values.items()
        ]
        rows += [
            Row(
                study="clusters",
                item="all",
                preset=study.preset,
                cell={"pair": study.pair, "layer": name},
                split="train",
                metric=metric,
                value=value,
                n=0,  # over no image: these are the weights'
                data=card["data"],
                **made_from,
            )
            for name, module in network.named_children()
            if isinstance(module, nn.Conv2d | nn.Linear)
            for metric, value in ranks(module.weight.detach().cpu()).items()
        ]
        context.refuse_edited()
        write_text(FOLDER / "tsne.csv", points)
        write_rows(FOLDER / "runs" / "all" / "rows.jsonl", rows)
        scratch.clear()
        run.log(context.stage, {"cells": len(waiting), "seconds": seconds, **about})


def cells(study: Clusters, sizes: Sizes | None = None) -> list[Cell]:
    """All clusterings; only K-means has limits, and those that leave no image out are one.

    Args:
        sizes: None counts every limit, where the images are not at hand.
    """
    known = sizes or {}

    def limits(method: str, images: str, fraction: float) -> Iterable[int]:
        if method != "kmeans":
            return (0,)
        size = known.get((images, fraction), math.inf)
        return dict.fromkeys(limit if limit < size else 0 for limit in study.num_samples)

    return [
        Cell(method, images, fraction, repeat, samples)
        for method, images in product(study.methods, study.images)
        for fraction, repeats in zip(study.fractions, study.repeats, strict=True)
        for repeat in range(repeats)
        for samples in limits(method, images, fraction)
    ]


def axes(study: Clusters, cell: Cell, layer: str) -> dict[str, Any]:
    """The cell of a row."""
    found: dict[str, Any] = {"pair": study.pair, "method": cell.method, "images": cell.images}
    found |= {"fraction": cell.fraction, "repeat": cell.repeat, "layer": layer}
    return found | ({"num_samples": cell.samples} if cell.method == "kmeans" else {})


def processes(method: str, device: torch.device, parts: dict[str, Part]) -> int:
    """Worker processes: as many as have memory for two tables of distances each."""
    if method == "kmeans":
        return run.workers() if device.type == "cpu" else 0
    pairs = max(len(part.labels) for part in parts.values()) ** 2 // 2
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(run.workers(), max(1, memory // (3 * 8 * pairs)))


def wanted(study: Clusters, layer: str) -> bool:
    """Whether the parameters ask for a layer; without a list they ask for all."""
    return study.layers is None or layer in study.layers


def of_pooled(study: Clusters, part: Part, rows: Int64[Tensor, " n"]) -> Scores:
    """Agglomerative clusters of each convolution's means over space."""
    found: Scores = []
    for layer, pooled in part.pooled.items():
        if not wanted(study, layer):
            continue
        chosen = rows[not_zero(pooled[rows])]
        labels = part.labels[chosen]
        count = len(labels.unique())
        table = contingency(labels, agglomerative(pooled[chosen], count))
        precision, recall = pair_scores(table, study.count_diagonal)
        values = {
            "ari": adjusted_rand(table),
            "pair_precision": precision,
            "pair_recall": recall,
            "cluster_accuracy": cluster_accuracy(table, study.inverse_assignment),
        }
        found.append((layer, len(chosen), values))
    return found


def of_channels(
    study: Clusters,
    network: nn.Sequential,
    part: Part,
    rows: Int64[Tensor, " n"],
    device: torch.device,
) -> Scores:
    """K-means clusters of each channel of each layer; the best and the mean channel's score."""
    labels = part.labels[rows]
    found: Scores = []
    for layer, output in layer_outputs(network, part.inputs[rows].to(device)):
        if not wanted(study, layer):
            continue
        channels = principal(output.transpose(0, 1), study.pca)
        clusters = kmeans(channels, len(labels.unique()), RESTARTS, SEED).cpu()
        scores = [adjusted_rand(contingency(labels, each)) for each in clusters]
        best, mean = over_channels(
            torch.tensor(scores, dtype=torch.float64), study.channel_in_scores
        )
        found.append((layer, len(rows), {"ari_max": best, "ari_mean": mean}))
    return found


def ranks(weight: Float[Tensor, "out ..."]) -> dict[str, float]:
    """Effective rank of a weight tensor, and the largest that its shape allows."""
    return {
        "effective_rank": effective_rank(weight),
        "largest_rank": min(weight.flatten(1).shape),
    }


def tsne_csv(
    params: Params, network: nn.Sequential, parts: dict[str, Part], device: torch.device
) -> str:
    """Coordinates of some images of each set on a map of each layer of ``tsne_layers``."""
    study = params.clusters
    lines: list[list[object]] = []
    for name, part in parts.items():
        random = run.generator(params.seed, f"clusters/tsne/{name}")
        rows = torch.randperm(len(part.labels), generator=random)[: study.tsne_images]
        if not len(rows):
            continue
        names = [part.class_names[label] for label in part.labels[rows].tolist()]
        for layer, output in layer_outputs(network, part.inputs[rows].to(device)):
            if layer in study.tsne_layers:
                points = tsne(output.flatten(1).cpu(), SEED).tolist()
                lines += [
                    [name, layer, label, f"{x:.3f}", f"{y:.3f}"]
                    for label, (x, y) in zip(names, points, strict=True)
                ]
    return to_csv(["images", "layer", "class", "x", "y"], lines)
