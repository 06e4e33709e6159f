"""What is told of an adapted model beside its start: accuracies, layers, weights, a line."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

import torch

from carryover.checkpoints import Checkpoint
from carryover.errors import DataError
from carryover.measure.calibration import calibration_error, negative_log_likelihood
from carryover.measure.similarity import linear_cka
from carryover.measure.survival import distance, finite, kept_share
from carryover.models.layers import parameter_groups
from carryover.survival_line import line
from carryover.survival_looks import Number, Seen, by_neighbours, by_probe, look, share, taught
from carryover.survival_start import Model, Origin, built, start_model, state_of

if TYPE_CHECKING:
    from carryover.config.survival import Survival

BINS = 15  # of the calibration error, as Guo et al. 2017 have it
ALL, TEXT = "all", "text"  # layers that are no group of the image network


def of_model(origin: Origin, study: Survival, found: Checkpoint, start: Seen) -> list[Number]:
    """All numbers of an adapted model; of weights that are not finite only that."""
    tensors = found.encoder_tensors
    if not finite(tensors):
        return [("diverged", {}, 1.0, 0)]
    as_it_was = not tensors and "modules" not in found.form
    model = start_model(origin) if as_it_was else built(origin, found, tensors)
    seen = start if as_it_was else look(origin, model)
    told = accuracies(origin, study, seen)
    return [
        *told,
        *kept(origin, told, accuracies(origin, study, start)),
        *similarities(seen, start),
        *distances(origin, found, model),
        *line(origin, study, found, seen, start),
    ]


def accuracies(origin: Origin, study: Survival, seen: Seen) -> list[Number]:
    """Accuracies and calibration of what a model gives, each set by itself."""
    found: list[Number] = []
    for part in origin.own:
        logits = seen.own.get(part.dataset)
        if logits is None:
            continue
        labels, n = part.test.labels, len(part.test)
        shares = logits.double().softmax(1)
        at = {"by": "own", "role": "source", "dataset": part.dataset}
        found += [
            ("accuracy", at, share(logits.argmax(1), labels), n),
            ("nll", at, negative_log_likelihood(shares, labels), n),
            ("ece", at, calibration_error(shares, labels, BINS, "equal"), n),
        ]
    for role, part in taught(origin).items():
        z, other, labels = seen.train[role], seen.test[role], part.test.labels
        worse = seen.worse if role == "target" else {}
        probed, *others = by_probe(z, part, torch.cat([other, *worse.values()]), study.l2).split(
            len(labels)
        )
        voted = by_neighbours(z, part, other, study.neighbours)
        at = {"role": role, "dataset": part.dataset}
        found += [
            ("accuracy", {"by": "probe", **at}, share(probed, labels), len(labels)),
            ("accuracy", {"by": "neighbours", **at}, share(voted, labels), len(labels)),
        ]
        for kind, named in zip(worse, others, strict=True):
            how = {"by": "probe", **at, "corruption": kind, "severity": study.severity}
            found.append(("corrupted_accuracy", how, share(named, labels), len(labels)))
    return found


def kept(origin: Origin, adapted: list[Number], start: list[Number]) -> list[Number]:
    """What is kept of each way to answer the source, over all its sets together."""
    chances = {part.dataset: part.chance for part in [*origin.own, *taught(origin).values()]}
    found: list[Number] = []
    for by in ("own", "probe", "neighbours"):
        ours, theirs = (_of_source(each, by) for each in (adapted, start))
        if not ours:
            continue
        n = sum(count for _, count in ours.values())
        means = [fmean(each[name][0] for name in ours) for each in (ours, theirs)]
        chance = fmean(chances[name] for name in ours)
        value = kept_share(means[0], means[1], chance, n)
        if value is not None:
            found.append(("kept", {"by": by}, value, n))
    return found


def _of_source(numbers: list[Number], by: str) -> dict[str, tuple[float, int]]:
    return {
        at["dataset"]: (value, n)
        for metric, at, value, n in numbers
        if metric == "accuracy" and (at["by"], at["role"]) == (by, "source")
    }


def similarities(seen: Seen, start: Seen) -> list[Number]:
    """Debiased linear CKA of each layer with the start's; none of one that tells nothing apart."""
    found: list[Number] = []
    for name, layer in seen.layers.items():
        try:
            value = float(linear_cka(layer, start.layers[name], debiased=True))
        except DataError:
            continue
        found.append(("cka", {"layer": name}, value, len(layer)))
    return found


def distances(origin: Origin, found: Checkpoint, model: Model) -> list[Number]:
    """How far weights have moved, by layer group of the image network, of the text, and in all."""
    owner = model.whole if found.what == "model" else model.image
    now, before = owner.state_dict(), state_of(origin, found)
    whole = {id(p): name for name, p in owner.named_parameters()}
    images = dict(model.image.named_parameters())
    groups = {
        group: [whole[id(images[name])] for name in names]
        for group, names in parameter_groups(model.image).items()
    }
    if found.what == "model":
        mine = {name for names in groups.values() for name in names}
        groups[TEXT] = [name for name in whole.values() if name not in mine]
    groups[ALL] = [name for names in list(groups.values()) for name in names]
    values = {name: distance(now, before, names) for name, names in groups.items()}
    return [("distance", {"layer": n}, v, 0) for n, v in values.items() if v is not None]
