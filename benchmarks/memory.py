"""Peak memory of a head that trains on all tokens of 60,000 images, read from the disk.

A store of random tokens with the rows of S-MNIST (60,000 training, 10,000 test images) is written
as the bank writes it: 17 tokens of width 48 in float32 (flava-nano's, held in memory), 50 of width
768 in bfloat16 (a ViT-B/32's; 5.4 GB of disk) and, if asked for, 197 of them (FLAVA's; 21 GB). A
process of its own reads all rows in random order, then trains the published head (100 and 50 units)
by Avalanche's Naive on three chunks, an epoch each, tested after each. The system says what the
process has held at most by then; pages of mapped files count.

    python benchmarks/memory.py --sizes flava-nano vit-b-32
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import turns
from carryover.adapt.avalanche import Settings, import_avalanche, run_stream
from carryover.bank_files import mapped, written
from carryover.continual_start import Inputs
from carryover.data.streams import iid_chunks
from carryover.models.heads import mlp_head

SIZES = {  # tokens, their width, what they are stored as
    "flava-nano": (17, 48, torch.float32),
    "vit-b-32": (50, 768, torch.bfloat16),
    "vit-b-16": (197, 768, torch.bfloat16),
}
TRAIN, TEST, CLASSES, SHARD, BATCH = 60_000, 10_000, 10, 10_000, 100
EXPERIENCES, HIDDEN, LR, MOMENTUM, SEED = 3, (100, 50), 0.001, 0.9, 0
BAR = 4 * 2**30  # bytes


def write_store(folder: Path, size: str) -> None:
    tokens, width, dtype = SIZES[size]
    generator = torch.Generator().manual_seed(SEED)
    for first in range(0, TRAIN + TEST, SHARD):
        layout = {"tokens": (dtype, (SHARD, tokens, width))}
        with written(folder / f"{first:05}.safetensors", layout, {}) as stream:
            rows = torch.randn(BATCH, tokens, width, generator=generator).to(dtype)
            for _ in range(0, SHARD, BATCH):
                stream.add(rows)


def measured(folder: Path) -> dict[str, Any]:
    """Peak bytes of this process step by step, and seconds."""
    import_avalanche()
    found = {"program_bytes": peak()}
    parts = [mapped(path)["tokens"] for path in sorted(folder.glob("*.safetensors"))]
    found["store_bytes"] = sum(part.numel() * part.element_size() for part in parts)
    inputs = Inputs(parts, [Tensor.float] * len(parts), torch.device("cpu"), mapped=True)
    seconds = {"read": turns.seconds(lambda: read(inputs))}
    found["read_bytes"] = peak()
    seconds["train"] = turns.seconds(lambda: train(inputs))
    return found | {"trained_bytes": peak(), "seconds": seconds}


def read(inputs: Inputs) -> None:
    """All rows in random order, batch by batch; none is kept."""
    order = torch.randperm(TRAIN + TEST, generator=torch.Generator().manual_seed(SEED))
    for rows in order.split(BATCH):
        inputs(rows)


def train(inputs: Inputs) -> None:
    labels, rows = torch.arange(TRAIN + TEST) % CLASSES, torch.arange(TRAIN + TEST)
    given = (rows[:TRAIN], labels[:TRAIN], rows[TRAIN:], labels[TRAIN:])
    stream = iid_chunks(*given, EXPERIENCES, seed=SEED, shuffle=True)
    generator = torch.Generator().manual_seed(SEED)
    head = mlp_head(inputs(rows[:1]).numel(), HIDDEN, CLASSES, generator=generator, sigmoid=False)
    optimiser = torch.optim.SGD(head.parameters(), LR, momentum=MOMENTUM)
    settings = Settings("naive", BATCH, BATCH, 1, 0, 0.0, 0.0, 0.0, 1.0)
    what = (head, inputs, labels, stream, optimiser, settings)
    run_stream(*what, seed=SEED, device=torch.device("cpu"), before=False)


def peak() -> int:
    """The most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure each size in a process of its own and write ``reports/bench/memory.json``."""
    parser = turns.parser(__doc__, "not used: the tokens are made here")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["flava-nano", "vit-b-32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.store:
        print(json.dumps(measured(options.store)))
        return
    found = {}
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_store(Path(folder), size)
            child = [sys.executable, __file__, "--store", folder, "--threads", str(options.threads)]
            said = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[size] = json.loads(said)
        held = found[size]["trained_bytes"] / 2**30
        print(f"memory: {size}, {TRAIN + TEST} images: {held:.2f} GiB at most, bar 4", flush=True)
    what = f"{TRAIN} training and {TEST} test images, {options.threads} threads; one run a size"
    print(turns.write("memory", {"what": what, "bar_bytes": BAR, "sizes": found}))
    if max(each["trained_bytes"] for each in found.values()) > BAR:
        raise SystemExit("memory: expected at most 4 GiB, it is more")


if __name__ == "__main__":
    main()
