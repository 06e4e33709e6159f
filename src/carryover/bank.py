"""The embedding bank: what encoders give for images and prompts, computed once.

The working bank keeps every feature under a key of all that it depends on (`bank_key`), in shards
that are whole or absent and verified when read. A killed run goes on where it stopped; another
weight, image, order or setting has another key. All missing features of a shard come from one
forward pass and go to the disk batch by batch, so memory holds one batch whatever the feature.

Any folder of the bank may be deleted at any time: what is missing is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from carryover import run
from carryover.bank_files import Shard, filling, written
from carryover.bank_key import image_keys, text_device, text_key
from carryover.bank_out import Embeddings, Precision, manifest, name_of, read, read_text
from carryover.data.images import Encoded, Images
from carryover.data.transforms import to_rgb
from carryover.errors import ConfigError, DataError
from carryover.models.encoders import Encoder, features
from carryover.models.features import Feature

__all__ = ["Embeddings", "embed", "manifest", "read", "read_text", "text_embeddings"]

SHARD_ROWS = 4096  # images of a shard: what a kill can lose
TEXT_ROWS = 256  # prompts embedded at once


def embed(
    encoder: Encoder,
    images: Images,
    wanted: Sequence[Feature],
    *,
    root: Path,
    precision: Precision,
    batch_size: int,
    device: torch.device,
    tokens: Precision = "bfloat16",
    shard_rows: int = SHARD_ROWS,
    advance: Callable[[int], None] | None = None,
) -> dict[Feature, Embeddings]:
    """Features of images from the bank, those that are missing computed first.

    All tokens are kept in the type asked for, everything else as float32. `encoder.image` is moved
    to `device`. A shard whose bytes were altered is computed again, which standard error tells.

    Args:
        root: folder of the bank; several processes may use it at once.
        precision: bfloat16 runs the network under autocast.
        tokens: what all tokens are kept as; bfloat16 takes half the disk and three digits of them.
        shard_rows: images of a shard, rounded down to whole batches.
        advance: called with the images of each batch that was computed, once per shard with 0
            where the bank had it.
    Raises:
        ConfigError: a feature that the encoder does not have.
        DataError: an image that does not decode, or an embedding that is not finite.
        KitError: the disk is full or `root` cannot be written.
    """
    encoder.image.to(device)
    wanted = list(dict.fromkeys(wanted))
    rows_of_shard = max(batch_size, shard_rows // batch_size * batch_size)
    keys = image_keys(
        encoder,
        images,
        wanted,
        precision=precision,
        tokens=tokens,
        batch_size=batch_size,
        shard_rows=rows_of_shard,
        device=device,
    )
    parts: dict[Feature, list[Tensor]] = {feature: [] for feature in wanted}
    for number, rows in enumerate(_ranges(range(len(images)), rows_of_shard)):
        shard = {
            feature: Shard(root / "images" / key / f"{number:05d}.safetensors", key, len(rows))
            for feature, key in keys.items()
        }
        with filling([shard[feature] for feature in wanted]):
            found = {feature: shard[feature].usable() for feature in wanted}
            missing = {f: shard[f] for f in wanted if found[f] is None}
            if missing:
                # inference_mode would copy linear weights for each image under autocast (torch
                # 2.13, CPU), which makes a ViT-B/16 seven times slower
                with torch.no_grad(), _autocast(device, precision):
                    _compute(encoder, images, missing, rows, batch_size, device, tokens, advance)
            elif advance:
                advance(0)
            for feature in wanted:
                value = found[feature]
                parts[feature].append(shard[feature].read() if value is None else value)
    return {
        feature: Embeddings(
            tuple(parts[feature]),
            images.labels,
            images.ids,
            images.digest,
            encoder.weights,
            feature,
            precision,
            key,
        )
        for feature, key in keys.items()
    }


def _ranges(rows: range, size: int) -> Iterator[range]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _autocast(device: torch.device, precision: Precision) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _compute(
    encoder: Encoder,
    images: Images,
    missing: Mapping[Feature, Shard],
    rows: range,
    batch_size: int,
    device: torch.device,
    tokens: Precision,
    advance: Callable[[int], None] | None,
) -> None:
    """Fill shards: one forward pass a batch for all of them, each batch written at once."""
    streams, done = {}, 0
    with ExitStack() as stack:
        for batch, network in _batches(encoder, images, rows, batch_size):
            x = batch.to(device, non_blocking=True)
            ids = images.ids[rows.start + done :][: len(x)]
            for feature, value in features(network, x, list(missing)).items():
                half = feature.kind == "tokens" and tokens == "bfloat16"
                kept = value.to(torch.bfloat16 if half else torch.float32)
                _refuse_not_finite(encoder, feature, kept, ids)
                if feature not in streams:
                    layout = {"values": (kept.dtype, (len(rows), *kept.shape[1:]))}
                    shard = missing[feature]
                    streams[feature] = stack.enter_context(written(shard.path, layout, shard.about))
                streams[feature].add(kept)
            done += len(x)
            if advance:
                advance(len(batch))


def _refuse_not_finite(
    encoder: Encoder, feature: Feature, values: Tensor, ids: Int64[Tensor, " b"]
) -> None:
    """Stop before values are stored that no study can use.

    Raises:
        DataError: a value is nan or infinite; the message names the first image.
    """
    finite = values.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise DataError(
            f"{encoder.name}: expected finite embeddings, got nan or inf in {name_of(feature)} of "
            f"image {int(ids[finite.cpu().logical_not()][0])}; take weights of before the training "
            "diverged, or precision float32; nothing was stored"
        )


def _batches(
    encoder: Encoder, images: Images, rows: range, size: int
) -> Iterator[tuple[Tensor, Encoder]]:
    """Batches of images and what to run on them, the next read while the caller computes.

    Images of a file of their own are brought to the encoder's input one by one, as they differ in
    size, so what runs on them leaves pixels as they are.
    """
    if isinstance(images.pixels, Encoded):
        done = replace(encoder.preprocess.sizing(), shorter=0)
        ready = replace(encoder, preprocess=done)
        decoders = ThreadPoolExecutor(max(1, run.workers()))
    else:
        ready, decoders = encoder, None

    def one(row: int) -> Tensor:
        return encoder.preprocess(to_rgb(images.image(row)[None].float() / 255))[0]

    def read(part: range) -> Tensor:
        if decoders is None:
            return to_rgb(images.floats(torch.tensor(part)))
        return torch.stack(list(decoders.map(one, part)))

    with decoders or ExitStack(), ThreadPoolExecutor(1) as reader:
        waiting = None
        for part in _ranges(rows, size):
            following = reader.submit(read, part)
            if waiting is not None:
                yield waiting.result(), ready
            waiting = following
        if waiting is not None:
            yield waiting.result(), ready


def text_embeddings(
    encoder: Encoder, prompts: Sequence[str], *, root: Path, precision: Precision
) -> Float[Tensor, "n d"]:
    """What the encoder's text network gives for prompts, from the bank; not of unit length.

    Raises:
        ConfigError: the encoder has no text network.
        DataError: an embedding that is not finite.
        KitError: the disk is full or `root` cannot be written.
    """
    text = encoder.text
    if text is None:
        raise ConfigError(
            f"{encoder.name}: expected an encoder with text, it has images alone; name another"
        )
    key = text_key(encoder, prompts, precision, TEXT_ROWS)
    shard = Shard(root / "text" / f"{key}.safetensors", key, len(prompts))
    with filling([shard]):
        found = shard.usable()
        if found is not None:
            return found
        device = text_device(encoder)
        with torch.no_grad(), _autocast(device, precision):
            values = torch.cat(
                [
                    text.encode(text.tokenize(prompts[i : i + TEXT_ROWS]).to(device)).float()
                    for i in range(0, len(prompts), TEXT_ROWS)
                ]
            )
        if not bool(values.isfinite().all()):
            first = int(values.isfinite().all(1).logical_not().nonzero()[0])
            raise DataError(
                f"{encoder.name}: expected finite embeddings, got nan or inf of "
                f"{prompts[first]!r}; take weights of before the training diverged"
            )
        layout = {"values": (values.dtype, tuple(values.shape))}
        with written(shard.path, layout, shard.about) as stream:
            stream.add(values)
        return shard.read()
