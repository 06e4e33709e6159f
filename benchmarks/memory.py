"""Peak memory of a head that trains on all tokens of its images, read from the disk.

Stores of random tokens are written as the bank writes them: with the rows of S-MNIST (60,000
training, 10,000 test images) 17 tokens of width 48 in float32 (flava-nano's, held in memory), 50 of
width 768 in bfloat16 (a ViT-B/32's; 5.4 GB of disk) and, if asked for, 197 of them (FLAVA's; 21
GB); with those of S-CUB-200 (5,994 and 5,794) 197 of width 768 in float32 (7.1 GB), for the widest
published head (1000 and 500 units, 152 million parameters), where the process has made a FLAVA of
full size and let it go, as the study does. A process of its own reads all rows in random
order, then trains the head (else 100 and 50 units) by Avalanche's Naive on three chunks, an epoch
each, tested after each, its state kept on the disk as the study keeps it. The system says what the
process has held at most by then; pages of mapped files count.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import FlavaConfig, FlavaModel

import turns
from carryover.adapt.avalanche import Settings, import_avalanche, run_stream
from carryover.bank_files import mapped, written
from carryover.continual_start import Inputs
from carryover.data.streams import iid_chunks
from carryover.models.heads import mlp_head


@dataclass(frozen=True)
class Size:
    """Tokens of an image with their width and type, images, and the head's hidden layers."""

    tokens: int
    width: int
    dtype: torch.dtype
    train: int = 60_000
    test: int = 10_000
    classes: int = 10
    hidden: tuple[int, int] = (100, 50)
    encoder: bool = False  # a FLAVA is made and let go before


SIZES = {
    "flava-nano": Size(17, 48, torch.float32),
    "vit-b-32": Size(50, 768, torch.bfloat16),
    "vit-b-16": Size(197, 768, torch.bfloat16),
    "flava-cub": Size(197, 768, torch.float32, 5994, 5794, 200, (1000, 500), encoder=True),
}
SHARD, BATCH = 10_000, 100
EXPERIENCES, LR, MOMENTUM, SEED = 3, 0.001, 0.9, 0
BAR = 4 * 2**30  # bytes


def write_store(folder: Path, size: Size) -> None:
    generator = torch.Generator().manual_seed(SEED)
    images = size.train + size.test
    for first in range(0, images, SHARD):
        count = min(SHARD, images - first)
        layout = {"tokens": (size.dtype, (count, size.tokens, size.width))}
        with written(folder / f"{first:05}.safetensors", layout, {}) as stream:
            rows = torch.randn(BATCH, size.tokens, size.width, generator=generator).to(size.dtype)
            for done in range(0, count, BATCH):
                stream.add(rows[: count - done])


def measured(folder: Path, size: Size) -> dict[str, Any]:
    """Peak bytes of this process step by step, and seconds."""
    import_avalanche()
    found = {"program_bytes": peak()}
    if size.encoder:
        FlavaModel(FlavaConfig())
        gc.collect()
        found["encoder_bytes"] = peak()
    parts = [mapped(path)["tokens"] for path in sorted(folder.glob("*.safetensors"))]
    found["store_bytes"] = sum(part.numel() * part.element_size() for part in parts)
    inputs = Inputs(parts, [Tensor.float] * len(parts), torch.device("cpu"), mapped=True)
    seconds = {"read": turns.seconds(lambda: read(inputs, size))}
    found["read_bytes"] = peak()
    seconds["train"] = turns.seconds(lambda: train(inputs, size, folder / "state.pt"))
    return found | {"trained_bytes": peak(), "seconds": seconds}


def read(inputs: Inputs, size: Size) -> None:
    """All rows in random order, batch by batch; none is kept."""
    generator = torch.Generator().manual_seed(SEED)
    for rows in torch.randperm(size.train + size.test, generator=generator).split(BATCH):
        inputs(rows)


def train(inputs: Inputs, size: Size, snapshot: Path) -> None:
    rows = torch.arange(size.train + size.test)
    labels = rows % size.classes
    given = (rows[: size.train], labels[: size.train], rows[size.train :], labels[size.train :])
    stream = iid_chunks(*given, EXPERIENCES, seed=SEED, shuffle=True)
    generator = torch.Generator().manual_seed(SEED)
    width = inputs(rows[:1]).numel()
    head = mlp_head(width, size.hidden, size.classes, generator=generator, sigmoid=False)
    optimiser = torch.optim.SGD(head.parameters(), LR, momentum=MOMENTUM)
    settings = Settings("naive", BATCH, BATCH, 1, 0, 0.0, 0.0, 0.0, 1.0, "kept")
    what = (head, inputs, labels, stream, optimiser, settings)
    run_stream(*what, seed=SEED, device=torch.device("cpu"), before=False, snapshot=snapshot)


def peak() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure each size in a process of its own and write ``reports/bench/memory.json``."""
    parser = turns.parser(__doc__, "not used: the tokens are made here")
    usual = ["flava-nano", "vit-b-32", "flava-cub"]
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=usual)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.store:
        print(json.dumps(measured(options.store, SIZES[options.sizes[0]])))
        return
    found = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_store(Path(folder), SIZES[size])
            child = [sys.executable, __file__, "--store", folder, "--sizes", size]
            child += ["--threads", str(options.threads)]
            said = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[size] = json.loads(said)
        held = found[size]["trained_bytes"] / 2**30
        print(f"memory: {size}: {held:.2f} GiB at most, bar 4", flush=True)
    sizes = {name: asdict(SIZES[name]) | {"dtype": str(SIZES[name].dtype)} for name in found}
    what = f"{options.threads} threads; one run a size"
    print(turns.write("memory", {"what": what, "bar_bytes": BAR, "of": sizes, "sizes": found}))
    if max(each["trained_bytes"] for each in found.values()) > BAR:
        raise SystemExit("memory: expected at most 4 GiB, it is more")


if __name__ == "__main__":
    main()
