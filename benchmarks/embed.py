"""Embedding through the bank against a bare forward pass and against the usual extraction loop.

ViT-B/16 with random weights on 224 px noise. In each turn the same slice of images goes through

- the bank (empty): read, preprocess, forward pass, write, sync, verify;
- nothing but the network, on batches that lie ready, at the same precision;
- the usual float32 loop: a DataLoader over decoded images, open_clip's transforms, batches of 64.

The bank takes a digest of the network once a call; on a slice it would weigh more than on a data
set, so it is timed apart and counted as for 1,000 images. Then an epoch of a linear probe on
embeddings of the bank against one that has to encode each image before (a bare forward pass an
image more). Where there is a GPU: images a second there, in bfloat16, with and without compiling.

    make bench
    python benchmarks/embed.py --turns 5 --images 8
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import image_transform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import turns
from carryover import bank
from carryover.bank_key import network_digest
from carryover.bank_out import Precision
from carryover.data.images import Images
from carryover.models import encoders
from carryover.models.encoders import Encoder
from carryover.models.features import Feature

SOURCE, SIZE = "open-clip:ViT-B-16", 224
END = Feature("projected")
COUNTED = 1000  # images over which the digest of the network is spread
PEER_BATCH = 64
PROBED, CLASSES = 10_000, 10  # rows and classes of the linear probe
GPU_IMAGES, GPU_BATCH = 4096, 512


class Decoded(Dataset[Any]):
    """Images as the usual loop has them: decoded, one transform an image."""

    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        pixels = images.pixels
        assert isinstance(pixels, Tensor)
        self.images = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pixels]
        self.labels, self.transform = images.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.transform(self.images[row]), self.labels[row]


def noise(count: int) -> Images:
    """Random pixels of the encoder's size, ten classes in turn."""
    random = torch.Generator().manual_seed(count)
    images = Images(
        labels=torch.arange(count) % CLASSES,
        class_names=tuple("0123456789"),
        ids=torch.arange(count),
        columns={},
        digest="",
        pixels=torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=random, dtype=torch.uint8),
    )
    return dataclasses.replace(images, digest=images.rows_digest())


def usual(encoder: Encoder, data: Decoded) -> Tensor:
    """The usual loop, without workers: starting them would weigh on a slice."""
    found = []
    with torch.no_grad():
        for x, _ in DataLoader(data, batch_size=PEER_BATCH):
            found.append(encoder.image(x))
    return torch.cat(found)


def bare(encoder: Encoder, batches: list[Tensor], precision: Precision) -> Tensor:
    """Nothing but forward passes, of pixels that were preprocessed before."""
    half = precision == "bfloat16"
    kind = batches[0].device.type
    with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=half):
        return torch.cat([encoder.image(x) for x in batches]).float()


def ours(encoder: Encoder, images: Images, precision: Precision, batch_size: int) -> Tensor:
    """The same through an empty bank."""
    device = next(encoder.image.parameters()).device
    with tempfile.TemporaryDirectory() as folder:
        found = bank.embed(
            encoder,
            images,
            [END],
            root=Path(folder),
            precision=precision,
            batch_size=batch_size,
            device=device,
        )
        return found[END].values.clone()


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    started = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, found


def settings(encoder: Encoder, images: Images, repeats: int) -> dict[str, float]:
    """Images a second of the bare network by precision, batch, layout and threads."""
    x = encoder.preprocess(images.floats(torch.arange(len(images))))
    wide, threads = x.to(memory_format=torch.channels_last), torch.get_num_threads()
    cases: dict[str, tuple[Tensor, int, Precision, int]] = {
        "float32": (x, len(x), "float32", threads),
        "bfloat16": (x, len(x), "bfloat16", threads),
        "bfloat16, half the batch": (x, len(x) // 2, "bfloat16", threads),
        "bfloat16, channels last": (wide, len(x), "bfloat16", threads),
        "bfloat16, one thread": (x, len(x), "bfloat16", 1),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (pixels, size, precision, used) in cases.items():
            torch.set_num_threads(used)
            work = functools.partial(bare, encoder, [*pixels.split(size)], precision)
            taken[name].append(timed(work)[0])
    torch.set_num_threads(threads)
    return {name: len(x) / min(seconds) for name, seconds in taken.items()}


def probe_epoch(embeddings: Tensor, labels: Tensor) -> None:
    """One epoch of a linear probe on embeddings, batches of 64."""
    head = nn.Linear(embeddings.shape[1], CLASSES)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.001)
    for x, y in zip(embeddings.split(PEER_BATCH), labels.split(PEER_BATCH), strict=True):
        optimiser.zero_grad()
        F.cross_entropy(head(x), y).backward()
        optimiser.step()


def on_gpu(count: int) -> dict[str, Any]:
    """Images a second on a GPU: through the bank and bare, as it is and compiled."""
    encoder, images = encoders.load(SOURCE), noise(GPU_IMAGES)
    encoder.image.cuda()
    ready = encoder.preprocess(images.floats(torch.arange(GPU_BATCH)).cuda())
    batches = [ready] * (GPU_IMAGES // GPU_BATCH)
    compiled = dataclasses.replace(encoder, image=torch.compile(encoder.image))
    rates: dict[str, list[float]] = {"bare": [], "compiled": [], "bank": []}
    for turn in range(count + 1):
        for name, work in (
            ("bare", lambda: bare(encoder, batches, "bfloat16")),
            ("compiled", lambda: bare(compiled, batches, "bfloat16")),
            ("bank", lambda: ours(encoder, images, "bfloat16", GPU_BATCH)),
        ):
            taken, _ = timed(work)
            if turn:  # the first warms up and compiles
                rates[name].append(GPU_IMAGES / taken)
    return {"gpu": torch.cuda.get_device_name()} | {k: turns.spread(v) for k, v in rates.items()}


def main() -> None:
    """Time all of it in turns and write ``reports/bench/embed.json``."""
    parser = turns.parser(__doc__, "not used: the images are noise")
    parser.add_argument("--images", type=int, default=64, help="images of a turn")
    parser.add_argument("--batch", type=int, default=8, help="of the bank and the bare network")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all three")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoder, images = encoders.load(SOURCE), noise(options.images)
    preprocess = encoder.preprocess
    data = Decoded(
        images, image_transform(SIZE, is_train=False, mean=preprocess.mean, std=preprocess.std)
    )
    batches = [*preprocess(images.floats(torch.arange(len(images)))).split(options.batch)]
    half: Precision = "bfloat16"
    measured = settings(encoder, images.select(torch.arange(options.batch)), 2)
    times: dict[str, list[float]] = {name: [] for name in ("ours", "bare", "usual", "digest")}
    for turn in range(options.turns):
        work: list[tuple[str, Callable[[], Any]]] = [
            ("ours", lambda: ours(encoder, images, half, options.batch)),
            ("bare", lambda: bare(encoder, batches, half)),
            ("usual", lambda: usual(encoder, data)),
        ]
        found = {}
        digest = turns.seconds(lambda: network_digest(encoder.image))
        for name, one in work if turn % 2 else work[::-1]:
            taken, found[name] = timed(one)
            times[name].append(taken)
        times["digest"].append(digest)
        times["ours"][-1] += digest * (len(images) / COUNTED - 1)
        print(f"turn {turn + 1} of {options.turns}", flush=True)
    alike = F.cosine_similarity(found["ours"], found["usual"]).min().item()
    same = torch.equal(found["ours"], found["bare"])
    kept = found["ours"][torch.arange(PROBED) % len(images)]
    labels = torch.arange(PROBED) % CLASSES
    epochs = []
    for seconds in times["bare"]:
        cached = turns.seconds(lambda: probe_epoch(kept, labels)) / PROBED
        epochs.append((seconds / len(images) + cached) / cached)
    ratios = {
        "share_of_bare": [b / o for b, o in zip(times["bare"], times["ours"], strict=True)],
        "usual_over_ours": [u / o for u, o in zip(times["usual"], times["ours"], strict=True)],
        "epoch_encoding_over_cached": epochs,
    }
    speeds = {
        name: turns.spread([len(images) / seconds for seconds in times[name]])
        for name in ("ours", "bare", "usual")
    }
    summary: dict[str, Any] = {
        "what": f"ViT-B/16, random weights, {SIZE} px, {len(images)} images a turn, "
        f"batches of {options.batch}, {torch.get_num_threads()} threads; ours and bare in {half}, "
        "the usual loop in float32",
        "images_a_second": speeds,
        "seconds_of_the_networks_digest": turns.spread(times["digest"]),
        **{name: turns.spread(values) for name, values in ratios.items()},
        "images_a_second_by_setting": measured,
        "least_cosine_with_float32": alike,
        "equal_to_bare": same,
    }
    if torch.cuda.is_available():
        summary["gpu"] = on_gpu(options.turns)
    path = turns.write("embed", summary)
    print(f"embed: ours {turns.said(speeds['ours'], 'images/s')}")
    for name, text in (
        ("share_of_bare", "of a bare forward pass at the same precision"),
        ("usual_over_ours", "times as fast as the usual float32 loop"),
        ("epoch_encoding_over_cached", "times: an epoch that encodes over one on the bank"),
    ):
        print(f"embed: {turns.said(summary[name], text)}")
    print(f"{path}; least cosine with float32 {alike:.5f}")
    if not same or alike < 0.999:
        raise SystemExit("embed: expected the embeddings of all ways to agree, they do not")


if __name__ == "__main__":
    main()
