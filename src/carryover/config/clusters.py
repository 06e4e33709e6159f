"""The ``clusters`` section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carryover.config.networks import Pretrain, classes, shares
from carryover.config.reader import at_least, between, distinct, each_slug
from carryover.errors import listed

Method = Literal["agglomerative", "kmeans"]
LEAST_MAPPED = 5  # images
ImageSet = Literal["pretrain", "finetune"]


@dataclass(frozen=True)
class Clusters:
    """The clustering study: which images, which clusterings, which of the published faults."""

    preset: str
    pair: str
    pretrained: str
    dataset: str
    classes: tuple[int, ...]
    fractions: tuple[float, ...]
    repeats: tuple[int, ...]
    sampling: Literal["equal", "proportional"]
    methods: tuple[Method, ...]
    images: tuple[ImageSet, ...]
    layers: tuple[str, ...] | None
    num_samples: tuple[int, ...]
    pca: int
    count_diagonal: bool
    inverse_assignment: bool
    channel_in_scores: bool
    tsne_layers: tuple[str, ...]
    tsne_images: int
    validation_fraction: float
    validation_seed: int | None
    stratified_validation: bool
    seeding: Literal["purpose", "repeat"]

    def faults(self) -> list[str]:
        found = classes(self.classes) + each_slug((self.pair,), "pair")
        for name in ("fractions", "methods", "images", "layers", "num_samples", "tsne_layers"):
            found += distinct(getattr(self, name) or (), name)
        found += shares(self.fractions, self.repeats)
        for i, samples in enumerate(self.num_samples):
            if 0 < samples < 2 * len(self.classes):
                found.append(
                    f"num_samples[{i}]: expected 0, for all, or at least {2 * len(self.classes)}, "
                    f"two an own class, got {samples}"
                )
            found += at_least(samples, f"num_samples[{i}]", 0)
        found += at_least(self.pca, "pca", 0) + at_least(self.tsne_images, "tsne_images", 0)
        if 0 < self.tsne_images < LEAST_MAPPED:
            found.append(
                f"tsne_images: expected 0 or at least {LEAST_MAPPED}, which t-SNE can place, got "
                f"{self.tsne_images}"
            )
        convolutions = [name for name in self.layers or ("conv",) if name.startswith("conv")]
        if "agglomerative" in self.methods and not convolutions:
            found.append(
                "layers: expected a convolution among them, which agglomerative clustering takes, "
                f"got {listed(self.layers or ())}"
            )
        found += between(self.validation_fraction, "validation_fraction", above=0.0, below=1.0)
        return found + at_least(self.validation_seed or 0, "validation_seed", 0)

    def faults_with(self, source: Pretrain) -> list[str]:
        """Faults that show beside the network: layers it lacks, classes it was trained on."""
        network = source.network
        convolutions = [f"conv{i}" for i in range(network.depth)]
        known = ["input", *convolutions, *(["hidden"] if network.hidden else []), "linear"]
        found = []
        for key, names in (("layers", self.layers or ()), ("tsne_layers", self.tsne_layers)):
            strange = [name for name in names if name not in known]
            if strange:
                found.append(
                    f"clusters.{key}: expected layers of {self.pretrained} ({listed(known)}), got "
                    f"{listed(strange)}"
                )
        shared = sorted(set(self.classes) & set(source.classes))
        if source.dataset == self.dataset and shared:
            found.append(
                f"clusters.classes: expected none of the classes that {self.pretrained} was "
                f"pretrained on, got {listed(map(str, shared))} in both; take them out of one list"
            )
        return found


# which cells there are, not what is in one
GRID = ("fractions", "repeats", "methods", "images", "num_samples", "tsne_layers", "tsne_images")
