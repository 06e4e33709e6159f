"""What the clustering study starts from: the source network, and subsets of images to cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.data import splits, store
from carryover.errors import DataError
from carryover.models.outputs import pooled_outputs
from carryover.prepare import SETS
from carryover.pretrain.supervised import normalised, validation_generator

if TYPE_CHECKING:
    from carryover.config.clusters import Clusters
    from carryover.config.params import Params

BATCH = 1024  # images a forward pass

Sizes = Mapping[tuple[str, float], int]  # images in the subset of a part, by part and fraction


@dataclass(frozen=True, eq=False)
class Part:
    """Images to cluster: the training part of the source or of the target classes.

    Attributes:
        inputs, labels: one image a row, on the CPU.
        class_names: the name of each label.
        pooled: mean over space of each channel, by convolution.
        data: digest of the images before the validation part was taken out.
    """

    inputs: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    class_names: tuple[str, ...]
    pooled: dict[str, Float[Tensor, "n d"]]
    data: str


def load_part(
    params: Params, name: str, card: dict[str, Any], network: nn.Sequential, device: torch.device
) -> Part:
    """Images of the source (``pretrain``) or target classes (``finetune``), less validation images.

    The same division as in pretraining and in the cut study, where ``validation_fraction``,
    ``validation_seed`` and ``stratified_validation`` are the same.

    Raises:
        DataError: images of another shape than the network's, or not those it was trained on.
    """
    study = params.clusters
    of_source = name == "pretrain"
    dataset = card["dataset"] if of_source else study.dataset
    classes = tuple(card["classes"]) if of_source else study.classes
    train = store.load(SETS / dataset, "train").of_classes(classes, "clusters.classes")
    if of_source and train.digest != card["data"]:
        raise DataError(
            f"{SETS / dataset}: expected the images that {study.pretrained} was trained on (digest "
            f"{card['data']}), got {train.digest}; run `dvc repro pretrain@{study.pretrained}`"
        )
    purpose = f"{'pretrain' if of_source else 'cuts'}/validation"
    random = validation_generator(params.seed, study.validation_seed, purpose)
    kept, _ = splits.hold_out(
        train.labels, study.validation_fraction, random, study.stratified_validation
    )
    part = train.select(kept)
    inputs = normalised(part, torch.device("cpu"))
    if list(inputs.shape[1:]) != list(card["image_shape"]):
        raise DataError(
            f"clusters.dataset: expected images of {card['image_shape']} (channels, height, width) "
            f"as {study.pretrained} was trained on, got {list(inputs.shape[1:])} from {dataset}; "
            "choose sets of one shape"
        )
    pooled = {}
    if "agglomerative" in study.methods:
        pooled = pooled_outputs(network, inputs, BATCH, device)
    return Part(inputs, part.labels, part.class_names, pooled, train.digest)


def subset(
    params: Params, part: Part, fraction: float, repeat: int, samples: int
) -> Int64[Tensor, " n"]:
    """Rows of the images of one clustering: those that the repeat trains on in the cut study.

    Args:
        samples: at most so many of them, drawn without regard to their labels; 0: all.
    """
    study = params.clusters
    random = splits.repeat_generator(params.seed, study.seeding, repeat)
    rows = splits.balanced_subset(
        part.labels, fraction, random, study.sampling, "clusters.fractions"
    )
    if 0 < samples < len(rows):
        rows = rows[torch.randperm(len(rows), generator=random)[:samples]]
    return rows


def sizes_of(study: Clusters, parts: dict[str, Part]) -> Sizes:
    """Images in each subset, before the first clustering.

    Raises:
        DataError: a fraction that gives some class fewer than two images, which make no pair.
        ConfigError: two fractions that give equally many images.
    """
    found: dict[tuple[str, float], int] = {}
    for name, part in parts.items():
        sizes: dict[float, int] = {}
        for fraction in study.fractions:
            rows = splits.balanced_subset(
                part.labels, fraction, torch.Generator(), study.sampling, "clusters.fractions"
            )
            if int(part.labels[rows].bincount().min()) < 2:
                raise DataError(
                    f"clusters.fractions: expected at least two {name} images a class, got one "
                    f"from {fraction}; raise it"
                )
            sizes[fraction] = len(rows)
        splits.expect_other_sizes(sizes, "clusters.fractions")
        found |= {(name, fraction): size for fraction, size in sizes.items()}
    return found
