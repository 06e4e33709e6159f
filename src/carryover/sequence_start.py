"""What the sequence study starts from: a CLIP, its data sets, reference images and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import bank, bank_out, run
from carryover.adapt.distill import unit_texts
from carryover.adapt_start import PROJECTED, Examples, of_pixels, sized
from carryover.config.encoders import EncoderEntry
from carryover.data import store
from carryover.data.images import Images
from carryover.distributed import ALONE, Ranks
from carryover.embed import EMBEDDINGS, prepared
from carryover.errors import ConfigError, DataError, pick
from carryover.files import digest
from carryover.models.encoders import Encoder
from carryover.models.prompts import TEMPLATES, class_prompts
from carryover.prepare import SETS, refuse_stale
from carryover.sequence_methods import length_faults

if TYPE_CHECKING:
    from carryover.config.params import Params

RANDOM_WORDS = 10  # tokens of a random sentence, as in LwF-VR


@dataclass(frozen=True, eq=False)
class Task:
    """One data set.

    Attributes:
        train, test: its images with their stored embeddings.
        ids: of the test images in their source.
        prompt_ids: tokens of each class's first prompt, which is trained with.
        all_prompt_ids: of all its prompts, which are tested with, class after class.
        templates: prompts a class.
        class_weights: of the start's zero-shot head.
    """

    name: str
    train: Examples
    test: Examples
    ids: Int64[Tensor, " n"]
    prompt_ids: Int64[Tensor, "c length"]
    all_prompt_ids: Int64[Tensor, "prompts length"]
    templates: int
    class_weights: Float[Tensor, "c d"]


@dataclass(frozen=True, eq=False)
class Reference:
    """What ZSCL distils on; none of it changes, so the teacher's part is computed once.

    Attributes:
        z: the start's unit embeddings of the images.
        sentence_ids, W: the sentences' tokens, and their unit embeddings by the start.
    """

    images: Examples
    z: Float[Tensor, "n d"]
    sentence_ids: Int64[Tensor, "m length"]
    W: Float[Tensor, "m d"]


@dataclass(frozen=True, eq=False)
class Start:
    """Everything before any training.

    Attributes:
        tasks: by data set.
        reference: None where no method needs it.
        sets: digest of the data sets' images; `data` of these and of what is distilled on;
            `embedded` of the folder of embeddings.
    """

    encoder: Encoder
    tasks: dict[str, Task]
    reference: Reference | None
    random_ids: Int64[Tensor, "m length"]
    sets: str
    data: str
    embedded: str
    device: torch.device
    ranks: Ranks = ALONE


def load_start(
    params: Params, device: torch.device, reference: bool, ranks: Ranks = ALONE
) -> Start:
    """The encoder, the data sets with their embeddings, and what is distilled on.

    Args:
        ranks: this process among those that train together.
    Raises:
        ConfigError: an encoder that is no CLIP, sentences of a set that has none, or epochs with
            too few updates for `sequence.warm_up` or `average.every`.
        DataError: embeddings of other weights or images than those that are here, or reference
            images without sentences of their own.
    """
    study = params.sequence
    if study.template:
        pick(TEMPLATES, study.template, "sequence.template")
    entry = params.encoders[study.encoder]
    encoder = prepared(entry)
    torch.set_num_threads(1)  # set by the encoder's entry; here processes share the cores
    if encoder.text is None or not hasattr(encoder.model, "visual"):
        raise ConfigError(
            f"sequence.encoder: expected a CLIP, with image and text, got {study.encoder}; name one"
        )
    encoder.model.to(device)
    folder = EMBEDDINGS / study.encoder
    facts = bank_out.manifest(folder)
    if (facts["weights"], facts["preprocess"]) != (encoder.weights, encoder.preprocess.digest()):
        raise _stale(folder, study.encoder)
    digests: list[str] = []
    tasks = {name: _task(params, encoder, folder, name, device, digests) for name in study.datasets}
    if study.epochs:
        trained = {name for order in study.orders.values() for name in order}
        shortest = min(study.updates_of(len(tasks[name].train)) for name in trained)
        for fault in length_faults(study, shortest):
            raise ConfigError(f"{fault}; lower it, or give sequence.epochs more")
    sets = digest(digests)
    ids = _random_sentences(params, encoder, study.distill.random_sentences).to(device)
    found = _reference(params, encoder, entry, ids, device, digests) if reference else None
    data = digest(digests)
    return Start(encoder, tasks, found, ids, sets, data, facts["digest"], device, ranks)


def _task(
    params: Params,
    encoder: Encoder,
    folder: Path,
    name: str,
    device: torch.device,
    digests: list[str],
) -> Task:
    refuse_stale(params.data, name)
    found: dict[str, Examples] = {}
    for split in ("train", "test"):
        images = store.load(SETS / name, split)
        stored = bank_out.read(folder, name, split, PROJECTED)
        if stored.data != images.digest:
            raise _stale(folder, params.sequence.encoder)
        found[split] = examples_of(images, encoder, stored.values.float(), device)
        digests.append(images.digest)
    assert encoder.text is not None
    template = params.sequence.template
    prompts = class_prompts(name, images.class_names, sentences_of=template or "")
    tokens = encoder.text.tokenize
    all_ids = tokens([prompt for group in prompts for prompt in group]).to(device)
    if template:  # of sentences that are not stored
        with torch.no_grad():
            text = unit_texts(encoder.model, all_ids).unflatten(0, (len(prompts), -1))
    else:
        text = bank_out.read_text(folder, name)  # [c, k, d]
    return Task(
        name,
        found["train"],
        found["test"],
        images.ids,
        tokens([group[0] for group in prompts]).to(device),
        all_ids,
        len(prompts[0]),
        F.normalize(text.mean(1), dim=-1).to(device),
    )


def examples_of(
    images: Images, encoder: Encoder, values: Float[Tensor, "n d"], device: torch.device
) -> Examples:
    """Images of one split with their embeddings."""
    return Examples(
        values.to(device),
        images.labels.to(device),
        sized(images, encoder),
        torch.arange(len(images)),
        of_pixels(images, encoder),
    )


def _reference(
    params: Params,
    encoder: Encoder,
    entry: EncoderEntry,
    random_ids: Int64[Tensor, "m length"],
    device: torch.device,
    digests: list[str],
) -> Reference:
    """Reference images, some of them or all; their embeddings come from the bank."""
    distil = params.sequence.distill
    refuse_stale(params.data, distil.reference)
    images = store.load(SETS / distil.reference, "train")
    if 0 < distil.reference_images < len(images):
        order = torch.randperm(len(images), generator=_drawn(params, "reference"))
        images = images.select(order[: distil.reference_images].sort().values)
    stored = bank.embed(
        encoder,
        images,
        [PROJECTED],
        root=run.scratch_root() / "bank",
        precision=entry.precision,
        batch_size=entry.batch_size,
        device=device,
    )[PROJECTED]
    ids = random_ids
    if distil.sentences != "random":
        ids = _tokens(params, encoder).to(device)
    digests += [images.digest, digest(ids.tolist())]
    examples = examples_of(images, encoder, stored.values.float(), device)
    with torch.no_grad():
        W = unit_texts(encoder.model, ids)
    return Reference(examples, F.normalize(examples.embeddings, dim=-1), ids, W)


def _tokens(params: Params, encoder: Encoder) -> Int64[Tensor, "m length"]:
    """Captions that differ, or all prompts of a set's classes; so many drawn of them."""
    distil = params.sequence.distill
    images = store.load(SETS / distil.sentences_of, "train")
    if distil.sentences == "prompts":
        groups = class_prompts(distil.sentences_of, images.class_names)
        sentences = [prompt for group in groups for prompt in group]
    else:
        sentences = sorted(set(images.columns.get("caption", [])))
    if not sentences:
        raise DataError(
            f"sequence.distill.sentences: expected captions of {distil.sentences_of}, it has none; "
            "take prompts or random"
        )
    if 0 < distil.sentence_count < len(sentences):
        order = torch.randperm(len(sentences), generator=_drawn(params, "sentences"))
        sentences = [sentences[i] for i in order[: distil.sentence_count].sort().values.tolist()]
    assert encoder.text is not None
    return encoder.text.tokenize(sentences)


def _random_sentences(params: Params, encoder: Encoder, count: int) -> Int64[Tensor, "m length"]:
    """Sentences of ten tokens, each drawn evenly from all words."""
    assert encoder.text is not None
    ids = encoder.text.tokenize([""] * count).clone()
    start, end = ids[0, :2].tolist()
    words = min(RANDOM_WORDS, ids.shape[1] - 2)
    drawn = torch.randint(
        1, start, (count, words), generator=_drawn(params, "random-sentences"), dtype=ids.dtype
    )
    ids[:, 1 : words + 1], ids[:, words + 1] = drawn, end
    return ids


def _drawn(params: Params, purpose: str) -> torch.Generator:
    return run.generator(params.seed, f"sequence/{purpose}")


def _stale(folder: Path, encoder: str) -> DataError:
    return DataError(
        f"{folder}: expected embeddings of the weights, preprocessing and images that are here, "
        f"got those of others; run `dvc repro embed@{encoder}`"
    )
