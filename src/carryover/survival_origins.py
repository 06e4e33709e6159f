"""The starts of each study's models, with the images to look at them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carryover.checkpoints import Checkpoint
from carryover.data import store
from carryover.data.images import Images
from carryover.embed import prepared
from carryover.errors import DataError, pick
from carryover.files import digest
from carryover.models import encoders, saved
from carryover.models.encoders import OWN as MODELS
from carryover.models.encoders import Encoder
from carryover.models.nano import UnknownWords
from carryover.models.prompts import class_prompts
from carryover.prepare import SETS, refuse_stale
from carryover.retrieval_start import loaded
from carryover.survival_sources import PRETRAIN, asked
from carryover.survival_start import (
    Origin,
    Part,
    Shown,
    made_worse,
    mean_texts,
    shown,
    shown_small,
    spread_rows,
)

if TYPE_CHECKING:
    from carryover.config.params import Params

Place = tuple[str, ...]  # what models of one kind have in common


def place_of(params: Params, found: Checkpoint) -> Place:
    """What tells a model's kind from others: study, start, and the set adapted to."""
    known = pick(KINDS, found.study, "survival.origins")
    more = (found.item,) if "size" in found.form else ()  # each shows images in its own way
    return (found.study, found.network, known.target(params, found), *more)


def load_origin(params: Params, found: Checkpoint, device: torch.device) -> Origin:
    """The start of a model's kind.

    Raises:
        DataError: the model began from other weights than those that are here, or a set is not
            prepared.
    """
    origin = KINDS[found.study].load(params, found, device)
    torch.set_num_threads(1)  # set by the encoder's entry; here processes share the cores
    expect_start(origin, found)
    return origin


def expect_start(origin: Origin, found: Checkpoint) -> None:
    """Refuse a model that began from other weights.

    Raises:
        DataError: it did.
    """
    wanted = origin.starts["model" if found.what == "model" else "image"]
    if found.start != wanted:
        raise DataError(
            f"checkpoint of {found.study} {found.item}: expected a model that began from the "
            f"weights {wanted} of {found.network}, got one from {found.start}; run "
            f"`dvc repro {found.study}@{found.item}`"
        )


# --- encoders with text, or of it -----------------------------------------------------------------


def _of_encoder(params: Params, found: Checkpoint, device: torch.device) -> Origin:
    """Sets outside those adapted to are answered untaught.

    Where there are none it is the sentences that the encoder was pretrained with, or the classes of
    the set that it was pretrained on, by the general prompt alone.
    """
    where = f"checkpoint of {found.study} {found.item}"
    entry = pick(params.encoders, found.network, where)
    target = KINDS[found.study].target(params, found)
    wanted, study = asked(params, found.study, found.network, target), params.survival
    encoder = prepared(entry)
    encoder.model.to(device)
    encoder.image.to(device)
    generic = entry.prompts == "generic"
    own = [_by_prompts(params, encoder, name, generic, device) for name in wanted.others]
    source, sentences = _source(params, encoder, wanted.source, device)
    if not any(own):
        own = [sentences]
    if not any(own):
        own = [_by_prompts(params, encoder, name, True, device) for name in wanted.apart]
    part = _part(params, encoder, wanted.target, device)
    return Origin(
        encoder,
        tuple(each for each in own if each),
        source,
        part,
        made_worse(part.test, study.corruptions, study.severity),
        None,
        _digests(encoder),
        (source or part).test,
        device,
    )


def _digests(encoder: Encoder) -> dict[str, str]:
    text = encoder.text.digest if encoder.text else ""
    return {"image": encoder.weights, "model": digest([encoder.weights, text])}


def _by_prompts(
    params: Params, encoder: Encoder, dataset: str, generic: bool, device: torch.device
) -> Part | None:
    """A set that class prompts answer; None where the encoder does not know their words."""
    if encoder.text is None:
        return None
    images = _images(params, dataset, _test_split(dataset))
    prompts = class_prompts(dataset, images.class_names, generic)
    try:
        ids = encoder.text.tokenize([prompt for group in prompts for prompt in group])
    except UnknownWords:
        return None
    test, data = shown(images, params.survival.images, encoder.preprocess, device)
    templates = len(prompts[0])
    texts = _texts(encoder, ids.to(device), templates)
    return Part(dataset, len(prompts), test, data, None, ids.to(device), templates, texts)


def _texts(encoder: Encoder, ids: Tensor, templates: int) -> Float[Tensor, "c d"]:
    """The start's zero-shot head."""
    assert encoder.text is not None
    with torch.no_grad():
        unit = F.normalize(encoder.text.encode(ids).float(), dim=-1)
    return mean_texts(unit, templates)


def _source(
    params: Params, encoder: Encoder, name: str | None, device: torch.device
) -> tuple[Part | None, Part | None]:
    """What an encoder was pretrained on: its classes, and its sentences where it knows text."""
    if name is None:
        return None, None
    source = _part(params, encoder, name, device)
    images = _images(params, name, _test_split(name))
    captions = images.columns.get("caption", [])
    if encoder.text is None or not captions:
        return source, None
    test, data = shown(images, params.survival.images, encoder.preprocess, device)
    rows = spread_rows(len(images), params.survival.images)
    some = images.select(rows).columns["caption"]
    sentences = sorted(set(some))
    labels = torch.tensor([sentences.index(each) for each in some])
    told = Shown(test.pixels, labels.to(device), test.finish)
    ids = encoder.text.tokenize(sentences).to(device)
    texts = _texts(encoder, ids, 1)
    return source, Part(f"{name} captions", len(sentences), told, data, None, ids, 1, texts)


def _part(params: Params, encoder: Encoder, dataset: str, device: torch.device) -> Part:
    """A set with images to teach a probe on."""
    study = params.survival
    splits = _test_split(dataset), "train"
    (test, data), (train, more) = (
        shown(_images(params, dataset, split), count, encoder.preprocess, device)
        for split, count in zip(splits, (study.images, study.train_images), strict=True)
    )
    classes = len(store.manifest(SETS / dataset)["class_names"])
    return Part(dataset, classes, test, digest([data, more]), train)


def _images(params: Params, dataset: str, split: str) -> Images:
    refuse_stale(params.data, dataset)
    return store.load(SETS / dataset, split)


def _test_split(dataset: str) -> str:
    """The split to test on: a corpus without test images keeps some for validation."""
    known = store.manifest(SETS / dataset)["splits"]
    return "test" if "test" in known else "validation" if "validation" in known else "train"


# --- networks with a classifier, or with nothing --------------------------------------------------


def _cuts(params: Params, found: Checkpoint, device: torch.device) -> Origin:
    """The source classes are answered by the classifier that they were pretrained with."""
    study, cuts = params.survival, params.cuts
    encoder = encoders.load(f"{PRETRAIN}{cuts.pretrained}")
    encoder.model.to(device)
    card = saved.read_card(MODELS / cuts.pretrained)
    wanted = (
        ("pretrain.classes", str(card["dataset"]), list(card["classes"])),
        ("cuts.classes", cuts.dataset, list(cuts.classes)),
    )
    parts = []
    for path, dataset, classes in wanted:
        made = []
        for split, count in (("test", study.images), ("train", study.train_images)):
            images = _images(params, dataset, split).of_classes(classes, path)
            made.append(shown(images, count, encoder.preprocess, device))
        (test, data), (train, more) = made
        named = f"{dataset} {' '.join(map(str, sorted(classes)))}"
        parts.append(Part(named, len(classes), test, digest([data, more]), train))
    source, target = parts
    worse = made_worse(target.test, study.corruptions, study.severity)
    head = encoder.model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    starts = {"image": card["weights"]}
    return Origin(encoder, (source,), source, target, worse, head, starts, source.test, device)


def _retrieval(params: Params, found: Checkpoint, device: torch.device) -> Origin:
    """Nothing is answered untaught; the target is shown as the study shows it."""
    study, retrieval = params.survival, params.retrieval
    encoder = loaded((retrieval.starts or {})[found.item][found.cell["control"]])
    encoder.model.to(device)
    wanted = asked(params, found.study, found.network, retrieval.dataset)
    source, _ = _source(params, encoder, wanted.source, device)
    scale = None
    if found.form.get("mean"):
        scale = (tuple(found.form["mean"]), tuple(found.form["std"]))
    (test, data), (train, more) = (
        shown_small(
            _images(params, retrieval.dataset, split),
            count,
            found.form["size"],
            scale,
            encoder.preprocess,
            device,
        )
        for split, count in (("test", study.images), ("train", study.train_images))
    )
    classes = len(store.manifest(SETS / retrieval.dataset)["class_names"])
    target = Part(retrieval.dataset, classes, test, digest([data, more]), train)
    worse = made_worse(test, study.corruptions, study.severity)
    layered = (source or target).test
    return Origin(encoder, (), source, target, worse, None, _digests(encoder), layered, device)


@dataclass(frozen=True)
class Kind:
    """A study whose models are looked at.

    Attributes:
        target: name of what a model was adapted to.
    """

    target: Callable[[Params, Checkpoint], str]
    load: Callable[[Params, Checkpoint, torch.device], Origin]


KINDS = {
    "cuts": Kind(lambda params, found: params.cuts.pair, _cuts),
    "adapt": Kind(lambda params, found: params.adapt.dataset, _of_encoder),
    "continual": Kind(lambda params, found: str(found.cell["stream"]), _of_encoder),
    "sequence": Kind(lambda params, found: str(found.cell["order"]), _of_encoder),
    "retrieval": Kind(lambda params, found: params.retrieval.dataset, _retrieval),
}
