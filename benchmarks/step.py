"""What an update of the sequence study costs with ViT-B/16, and what its published runs would take.

The operations of an update are counted, not timed: the study's own functions run once on a few
images with random weights in the shapes of ViT-B/16, forward and back, under torch's
FlopCounterMode (a multiplication and an addition are two). They are proportional to images and to
prompts, so a batch's follow from them. What the graph keeps for the way back is added up on the
way, each storage once. The time of a run is an estimate: operations over a device's own figure of
peak operations a second, times a share of it that is assumed. Loading, decoding, the teacher's
embeddings and the optimiser's step are left out. Memory is of weights, optimiser, stored embeddings
and what the graph keeps; what a device takes for itself and for the kernels' work comes on top.

Counted are the orders of the study's published presets with their sets, updates, batches and all
their tests; the README's as if its later sets trained (`resume_bug` false). `--timed` makes real
updates on this machine's GPU, or one core, and adds the hours at their pace, without a share.

    python benchmarks/step.py
    python benchmarks/step.py --accumulate 4 --share 0.3
    python benchmarks/step.py --timed 5
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import turns
from carryover import presets, run
from carryover.adapt.distill import classification_loss, unit_images, unit_texts, zscl_loss
from carryover.adapt.lora import lora_
from carryover.config import params as config
from carryover.data.catalog import DATASETS
from carryover.models import openclip
from carryover.train import in_precision

ARCHITECTURE = "ViT-B-16-quickgelu"
PRESETS = ("published", "published/readme", "published/thesis")
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
PLAIN, ADAPTED = ("finetune", "lwf", "zscl", "zscl-ogd"), ("zscl-lora",)
DISTILLING = ("lwf", "zscl", "zscl-ogd", "zscl-lora")
SENTENCES = 500  # of the reference, where updates are timed


@dataclass(frozen=True)
class Cost:
    """Operations of one image or prompt, bytes kept for it, and bytes kept once for all."""

    flops: float
    kept: float
    once: float = 0.0


@dataclass(frozen=True)
class Order:
    """What a published run of one order is, counted in images.

    Attributes:
        classes: a set's on average.
        tested: by the tests after each set; `beside` by others, of each method.
        stored: whose embeddings lie in memory, and those of `reference` images too.
    """

    name: str
    classes: float
    batch: int
    updates: int
    tested: int
    beside: dict[str, int]
    stored: int
    reference: int
    methods: tuple[str, ...]


def orders_of(preset: str) -> list[Order]:
    """The orders of a preset of the study."""
    study = config.parse(presets.tree(preset), preset).sequence
    assert study.updates is not None
    how, steps = study.curves, study.updates + study.faults_of_original.extra_step
    tests = sum(DATASETS[name].splits["test"] for name in study.datasets)
    stored = sum(sum(DATASETS[name].splits.values()) for name in study.datasets)
    listed = {name for item in study.items for name in study.methods[item]}
    found = []
    for number, (name, sets) in enumerate(study.orders.items()):
        beside = dict.fromkeys(listed, 0)
        for method in listed if number == 0 else ():  # curves are of the first order
            if how.eval_every and method in how.eval_methods:
                beside[method] += len(sets) * ((steps - 1) // how.eval_every) * tests
            if method in how.mix_methods:
                beside[method] += len(how.mix_after) * sum(0 < m < 1 for m in how.mixes) * tests
        found.append(
            Order(
                f"{preset} {name}",
                sum(DATASETS[each].classes or 0 for each in sets) / len(sets),
                study.batch_size,
                steps * len(sets),
                len(sets) * tests,
                beside,
                stored,
                3 * DATASETS[study.distill.reference].splits["train"],
                tuple(method for method in (*PLAIN, *ADAPTED) if method in listed),
            )
        )
    return found


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
    image, prompt = (cost(work, own, precision) for work in (images, prompts))
    return Network(image, prompt, weights, sum(trained.values()))


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


def timed(method: str, order: Order, precision: str, options: Any) -> tuple[float, float]:
    """Seconds of an update on this machine, and its GPU's peak in GiB (0 where it has none)."""
    device = run.device("auto")
    torch.manual_seed(0)
    model: Any = openclip.create(open_clip.get_model_config(ARCHITECTURE), ARCHITECTURE)
    model.eval().to(device).logit_scale.requires_grad_(False)
    if method in ADAPTED:
        lora_(model, generator=torch.Generator().manual_seed(0), **LORA)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5, weight_decay=0.0, fused=True)
    classes, both = round(order.classes), 2 if method in DISTILLING else 1
    ids = torch.full((classes, 77), 1000, device=device)
    ids[:, PROMPT_TOKENS - 1], ids[:, PROMPT_TOKENS:] = 49407, 0
    images = torch.randn(both, order.batch, 3, 224, 224, device=device)
    labels = torch.arange(order.batch, device=device) % classes
    z_teacher = F.normalize(torch.randn(order.batch, WIDTH, device=device), dim=-1)
    W_teacher = F.normalize(torch.randn(SENTENCES, WIDTH, device=device), dim=-1)

    def update() -> None:
        optimiser.zero_grad()
        for rows in torch.arange(order.batch, device=device).chunk(options.accumulate):
            with in_precision(device, precision):
                W = unit_texts(model, ids)
                z, *reference = unit_images(model, images[:, rows].flatten(0, 1)).chunk(both)
            loss = classification_loss(z, W, labels[rows], 100.0, 0.2)
            for each in reference:
                terms = {"image": True, "text": True}
                loss = loss + zscl_loss(each, z_teacher[rows], W_teacher, 100.0, 2.0, **terms)
            loss.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    update()  # makes room
    seconds = statistics.median(turns.seconds(update) for _ in range(options.timed))
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return seconds, peak


def run_of(
    method: str, precision: str, way: Network, order: Order, forward: float, options: Any
) -> dict[str, Any]:
    """An update and a run of a method."""
    distils = method in DISTILLING
    images = (2 if distils else 1) * order.batch
    step = images * way.image.flops + order.classes * way.prompt.flops
    images_kept = images / options.accumulate * way.image.kept
    kept = images_kept + order.classes * way.prompt.kept + way.image.once + way.prompt.once
    copies = 5 if method.startswith("zscl") else 4  # gradient, two moments, before, the mean
    held = FLOAT * (3 * way.weights + copies * way.trained)  # zero-shot, before the task, student
    rows = order.stored + (order.reference if method.startswith("zscl") else 0)
    stored = FLOAT * WIDTH * rows
    tests = forward * (order.tested + order.beside[method])
    whole = order.updates * step + tests
    hours = {
        device: whole / (options.share * peaks[precision]) / 3600
        for device, peaks in DEVICES.items()
    }
    found = {
        "order": order.name,
        "method": method,
        "precision": precision,
        "step_tflop": step / 1e12,
        "run_pflop": whole / 1e15,
        "of_tests_pflop": tests / 1e15,
        "gib": (held + stored + kept) / 2**30,
        "gib_of_activations": kept / 2**30,
        "hours": hours,
    }
    if options.timed:
        seconds, peak = timed(method, order, precision, options)
        hours["here"] = whole / step * seconds / 3600
        found |= {"seconds": seconds, "peak_gib": peak}
    return found


def main() -> None:
    """Count, print a table and write ``reports/bench/step.json``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", default="", help="not used: the images are blank")
    parser.add_argument("--preset", action="append", help="of the study; may be repeated")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--share", type=float, default=0.4, help="of peak operations: assumed")
    parser.add_argument("--timed", type=int, default=0, help="updates to time on this machine")
    options = parser.parse_args()
    torch.set_num_threads(1)
    orders = [order for name in options.preset or PRESETS for order in orders_of(name)]
    each = forward()
    lines, counted = [], {}
    for precision in PRECISIONS:
        for adapters in (False, True):
            way = measured(adapters, precision)
            counted[f"{precision}{', adapters' if adapters else ''}"] = asdict(way)
            for order in orders:
                methods = [m for m in order.methods if (m in ADAPTED) == adapters]
                lines += [run_of(m, precision, way, order, each, options) for m in methods]
    print(f"an image forward: {each / 1e9:.1f} GFLOP")
    heads = ["order", "method", "precision", "TFLOP an update", "PFLOP a run", "of tests", "GiB"]
    print(f"| {' | '.join([*heads, *lines[0]['hours']])} |")
    for line in lines:
        cells = [line["order"], line["method"], line["precision"], f"{line['step_tflop']:.1f}"]
        cells += [f"{line[key]:.0f}" for key in ("run_pflop", "of_tests_pflop", "gib")]
        cells += [f"{hours:.1f} h" for hours in line["hours"].values()]
        print(f"| {' | '.join(cells)} |")
    what = f"updates and runs of published presets; {ARCHITECTURE}, random weights"
    about = {"assumed": vars(options), "forward_flops": each, "counted": counted, "runs": lines}
    print(turns.write("step", {"what": what, **about}))


if __name__ == "__main__":
    main()
