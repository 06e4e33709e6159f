"""Handmade rows of the clustering study and of the cut study beside it."""

from __future__ import annotations

from typing import Any

from carryover.rows import Row

LAYERS = tuple(f"conv{i}" for i in range(6))
IMAGES = {0.05: 10, 1.0: 239}

# median ARI and mean accuracy by layer: in one order at 5 %, in the reverse order at 100 %
ARI = {0.05: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6), 1.0: (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)}
ACCURACY = {0.05: (0.4, 0.5, 0.6, 0.7, 0.8, 0.9), 1.0: (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)}


def row(study: str, item: str, cell: dict[str, Any], split: str, metric: str, **found: Any) -> Row:
    return Row(
        study=study,
        item=item,
        preset="tiny",
        cell={"pair": "digits", **cell},
        split=split,
        metric=metric,
        value=found["value"],
        n=found["n"],
        data="d",
        weights="w",
        params="p",
        source="s",
        precision="float32",
    )


def cluster_rows(methods: tuple[str, ...] = ("agglomerative", "kmeans")) -> list[Row]:
    """Repeats 0 and 1 lie 0.01 above and below the medians; K-means 0.05 above agglomerative."""
    found = []
    for method in methods:
        for images in ("pretrain", "finetune"):
            for fraction, scores in ARI.items():
                for repeat, off in enumerate((0.01, -0.01)):
                    cell = {"method": method, "images": images, "fraction": fraction}
                    cell |= {"repeat": repeat}
                    n = IMAGES[fraction]
                    for layer, score in zip(LAYERS, scores, strict=True):
                        here = cell | {"layer": layer}
                        value = round(score + off, 6)
                        if method == "agglomerative":
                            kinds = {"ari": value, "pair_precision": 0.5, "pair_recall": 0.5}
                        else:
                            here |= {"num_samples": 60 if IMAGES[fraction] > 60 else 0}
                            kinds = {"ari_max": value + 0.05, "ari_mean": value + 0.02}
                            n = min(n, 60)
                        for metric, number in kinds.items():
                            found.append(
                                row("clusters", "all", here, "train", metric, value=number, n=n)
                            )
    for layer in LAYERS:
        for metric, number in (("effective_rank", 3.5), ("largest_rank", 4.0)):
            cell = {"layer": layer}
            found.append(row("clusters", "all", cell, "train", metric, value=number, n=0))
    return found


def cut_rows() -> list[Row]:
    """Accuracies at cuts 1 to 6, validation as test; cut 0 keeps no layer."""
    found = []
    for fraction, means in ACCURACY.items():
        for cut, mean in enumerate((0.99, *means)):
            for repeat, off in enumerate((0.02, -0.02)):
                cell = {"fraction": fraction, "cut": cut, "repeat": repeat}
                for split, n in (("validation", 20), ("test", 100), ("train", 10)):
                    value = round(mean + off, 6)
                    found.append(row("cuts", "fr", cell, split, "accuracy", value=value, n=n))
    return found


def points_csv() -> str:
    lines = [
        f"{images},{layer},{label},{i + shift}.0,{i * i}.5"
        for images, shift in (("pretrain", 0), ("finetune", 5))
        for layer in ("input", "conv5")
        for label in "ab"
        for i in range(4)
    ]
    return "\n".join(["images,layer,class,x,y", *lines, ""])
