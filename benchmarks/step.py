"""What an update of the sequence study costs with ViT-B/16, and what its published runs would take.

The operations of an update are counted, not timed: the study's own functions run once on a few
images with random weights in the shapes of ViT-B/16, forward and back, under torch's
FlopCounterMode (a multiplication and an addition are two). They are proportional to images and to
prompts, so a batch's follow from them. What the graph keeps for the way back is added up on the
way, each storage once. The time of a run is an estimate: operations over a device's own figure of
peak operations a second, times a share of it that is assumed. Loading, decoding, the teacher's
embeddings and the optimiser's step are left out. Memory is of weights, optimiser, stored embeddings
and what the graph keeps; what a device takes for itself and for the kernels' work comes on top.

Everything is counted for the sets and orders of the study as published: 11 sets, 1000 updates each
in batches of 64, tests of all sets after each.

    python benchmarks/step.py
    python benchmarks/step.py --batch 8 --updates 5000 --share 0.3
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import open_clip
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import turns
from carryover.adapt.distill import unit_images, unit_texts
from carryover.adapt.lora import lora_
from carryover.data.catalog import DATASETS
from carryover.models import openclip
from carryover.train import in_precision

ARCHITECTURE = "ViT-B-16-quickgelu"
SETS = (  # of both orders
    *("aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers", "food-101", "mnist"),
    *("oxford-pet", "cars", "sun397"),
)
CLASSES = 108  # a set's on average
PROMPT_TOKENS = 16  # with start and end
FEW, MANY = 1, 3  # images or prompts; what one costs is half of the difference
WIDTH = 512  # of an embedding
FLOAT = 4  # bytes
LORA: dict[str, Any] = {"rank": 8, "alpha": 16, "targets": ("attn", "mlp.c_fc", "mlp.c_proj")}
LORA |= {"sharing": "none"}
PRECISIONS = ("float32", "bfloat16")
DEVICES = {  # peak operations a second, by their maker: float32 without TF32, and bfloat16, dense
    "A100": {"float32": 19.5e12, "bfloat16": 312e12},
    "H100": {"float32": 66.9e12, "bfloat16": 989.4e12},
}
PLAIN, ADAPTED = ("finetune", "lwf", "zscl"), ("zscl-lora",)
DISTILLING = ("lwf", "zscl", "zscl-lora")


@dataclass(frozen=True)
class Cost:
    """Operations of one image or prompt, bytes kept for it, and bytes kept once for all."""

    flops: float
    kept: float
    once: float = 0.0


@dataclass(frozen=True)
class Network:
    """What a way of training costs; `trained` numbers of its `weights`."""

    image: Cost
    prompt: Cost
    weights: int
    trained: int


def measured(adapters: bool, precision: str) -> Network:
    """An image and a prompt through a network of the published shapes, there and back."""
    torch.manual_seed(0)
    model: Any = openclip.create(open_clip.get_model_config(ARCHITECTURE), ARCHITECTURE).eval()
    weights = sum(p.numel() for p in model.parameters())
    model.logit_scale.requires_grad_(False)
    if adapters:
        lora_(model, generator=torch.Generator().manual_seed(0), **LORA)
    trained = {p: p.numel() for p in model.parameters() if p.requires_grad}
    ids = torch.full((MANY, 77), 1000)
    ids[:, PROMPT_TOKENS - 1], ids[:, PROMPT_TOKENS:] = 49407, 0

    def images(n: int) -> Tensor:
        return unit_images(model, torch.zeros(n, 3, 224, 224))

    def prompts(n: int) -> Tensor:
        return unit_texts(model, ids[:n])

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    costs = [cost(work, own, precision) for work in (images, prompts)]
    return Network(*costs, weights, sum(trained.values()))


def cost(work: Callable[[int], Tensor], own: set[int], precision: str) -> Cost:
    """Of one more; `own` are the addresses of the network's weights, which are not counted."""
    found = []
    for n in (FEW, MANY):
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),  # whose products the counter knows
            in_precision(torch.device("cpu"), precision),
        ):
            work(n).sum().backward()
        kept: dict[int, int] = {}

        def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with (
            in_precision(torch.device("cpu"), precision),
            saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            graph = work(n)
        found.append((counter.get_total_flops(), sum(kept.values())))
        del graph
    flops, kept_each = ((b - a) / (MANY - FEW) for a, b in zip(*found, strict=True))
    return Cost(flops, kept_each, found[0][1] - FEW * kept_each)


def forward() -> float:
    """Operations of embedding one image."""
    torch.backends.mha.set_fastpath_enabled(False)  # one call, which the counter does not know
    model: Any = openclip.create(open_clip.get_model_config(ARCHITECTURE), ARCHITECTURE).eval()
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
    ):
        unit_images(model, torch.zeros(FEW, 3, 224, 224))
    return counter.get_total_flops() / FEW


def run_of(method: str, precision: str, way: Network, test: float, options: Any) -> dict[str, Any]:
    """An update and a run of a method."""
    images = (2 if method in DISTILLING else 1) * options.batch
    step = images * way.image.flops + CLASSES * way.prompt.flops
    images_kept = images / options.accumulate * way.image.kept
    kept = images_kept + CLASSES * way.prompt.kept + way.image.once + way.prompt.once
    copies = 5 if method.startswith("zscl") else 4  # gradient, two moments, before, the mean
    held = FLOAT * (3 * way.weights + copies * way.trained)  # zero-shot, before the task, student
    rows = sum(sum(DATASETS[name].splits.values()) for name in SETS)
    rows += 3 * DATASETS["imagenet"].splits["train"] if method.startswith("zscl") else 0
    stored = FLOAT * WIDTH * rows
    whole = len(SETS) * (options.updates * step + test)
    hours = {
        device: whole / (options.share * peaks[precision]) / 3600
        for device, peaks in DEVICES.items()
    }
    return {
        "method": method,
        "precision": precision,
        "step_tflop": step / 1e12,
        "run_pflop": whole / 1e15,
        "gib": (held + stored + kept) / 2**30,
        "gib_of_activations": kept / 2**30,
        "hours": hours,
    }


def main() -> None:
    """Count, print a table and write ``reports/bench/step.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", default="", help="not used: the images are blank")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.4, help="of peak operations: assumed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    each = forward()
    test = each * sum(DATASETS[name].splits["test"] for name in SETS)
    lines, counted = [], {}
    for precision in PRECISIONS:
        for adapters in (False, True):
            way = measured(adapters, precision)
            counted[f"{precision}{', adapters' if adapters else ''}"] = asdict(way)
            methods = ADAPTED if adapters else PLAIN
            lines += [run_of(method, precision, way, test, options) for method in methods]
    print(f"an image forward: {each / 1e9:.1f} GFLOP; tests of a run: {len(SETS) * test:.3g} FLOP")
    print(f"| method | precision | TFLOP an update | PFLOP a run | GiB | {' | '.join(DEVICES)} |")
    for line in lines:
        cells = [line["method"], line["precision"], f"{line['step_tflop']:.1f}"]
        cells += [f"{line['run_pflop']:.0f}", f"{line['gib']:.0f}"]
        cells += [f"{hours:.1f} h" for hours in line["hours"].values()]
        print(f"| {' | '.join(cells)} |")
    what = f"one update: batch {options.batch}, {CLASSES} classes; {ARCHITECTURE}, random weights"
    about = {"assumed": vars(options), "forward_flops": each, "counted": counted, "runs": lines}
    print(turns.write("step", {"what": what, **about}))


if __name__ == "__main__":
    main()
