"""A training step of ZSCL against a plain re-creation of the published one, in turns.

Random weights in the shapes of ViT-B/16 with as many blocks in both networks as asked for (the real
one has 12), 224 px noise, 16 images and 16 reference images a step, 500
reference sentences, every class's prompt through the student's text network, both terms of
distillation, AdamW. Both are in the same process, on as many threads, and start as equals.

The peer does what the published code does, all in float32: sentences and prompts at their full 77
tokens, the sentences through the teacher in each step, and the reference images too. Ours takes the
teacher's embeddings of sentences and reference images from store (the time to fill it is given
apart: once a teacher, not once a step), cuts the prompts behind their last token, passes the
student's images together, computes of the last block the one token that is read, and steps with
the fused AdamW. Then the same in bfloat16.

All blocks cost the peer alike; ours saves most of one of them, so that few blocks flatter the ratio
by that: with 12 it is a twelfth of the student's work that is saved, with 3 a third. A GPU is taken
where there is one.

The student's two batches of images, there and back, are most of our step and no smaller for the
peer, so the ratio rises with the classes and has a ceiling; `classes` is near the mean of the
published order of eleven sets (108).

    make bench
    python benchmarks/zscl.py --turns 5 --blocks 12 --classes 397
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

import turns
from carryover.adapt.distill import classification_loss, unit_images, unit_texts, zscl_loss
from carryover.models import openclip
from carryover.parallel import keep_freed_memory
from carryover.train import in_precision

ARCHITECTURE = "ViT-B-16-quickgelu"  # as OpenAI's weights have it
BATCH, SENTENCES = 16, 500
PROMPT_TOKENS, SENTENCE_TOKENS = (8, 16), (8, 30)  # with start and end
SMOOTHING, TEMPERATURE, LR = 0.2, 2.0, 1e-5
BLOCKS, CLASSES = 3, 100
EQUAL = 1e-3  # relative difference of losses that passes in float32
BARS = {"float32": 3, "bfloat16": 6}


@dataclass(frozen=True)
class Inputs:
    """What a step sees: images, labels, prompts, reference images and sentences."""

    x: Tensor
    labels: Tensor
    prompts: Tensor
    reference: Tensor
    sentences: Tensor


@dataclass
class Store:
    """The teacher's unit embeddings, made once."""

    z: Tensor
    W: Tensor


def network(blocks: int, device: torch.device) -> Any:
    """A CLIP of the architecture's widths, in evaluation mode as the published code has it."""
    config: dict[str, Any] = open_clip.get_model_config(ARCHITECTURE)
    for part in ("vision_cfg", "text_cfg"):
        config[part] = config[part] | {"layers": blocks}
    torch.manual_seed(0)
    return openclip.create(config, ARCHITECTURE).eval().to(device)


def tokens(count: int, lengths: tuple[int, int], random: torch.Generator) -> Tensor:
    """Sentences of drawn tokens and lengths; the highest number is the end."""
    ids = torch.zeros(count, 77, dtype=torch.int64)
    for row, n in zip(ids, torch.randint(*lengths, (count,), generator=random), strict=True):
        row[1 : n - 1] = torch.randint(1000, 40_000, (int(n) - 2,), generator=random)
        row[0], row[n - 1] = 49406, 49407
    return ids


def inputs(classes: int, device: torch.device) -> Inputs:
    random = torch.Generator().manual_seed(0)
    x, reference = torch.randn(2, BATCH, 3, 224, 224, generator=random)
    labels = torch.randint(classes, (BATCH,), generator=random)
    prompts = tokens(classes, (PROMPT_TOKENS[0], PROMPT_TOKENS[1] + 1), random)
    sentences = tokens(SENTENCES, (SENTENCE_TOKENS[0], SENTENCE_TOKENS[1] + 1), random)
    return Inputs(*(part.to(device) for part in (x, labels, prompts, reference, sentences)))


def published_step(student: Any, teacher: Any, given: Inputs, optimiser: Any) -> float:
    """Everything computed in each step."""
    optimiser.zero_grad()
    texts = F.normalize(student.encode_text(given.prompts), dim=-1)
    images = F.normalize(student.encode_image(given.x), dim=-1)
    scale = student.logit_scale.exp().detach()
    loss = F.cross_entropy(scale * images @ texts.t(), given.labels, label_smoothing=SMOOTHING)
    with torch.no_grad():
        sentences = F.normalize(teacher.encode_text(given.sentences), dim=-1)
        old = scale * F.normalize(teacher.encode_image(given.reference), dim=-1) @ sentences.t()
    new = scale * F.normalize(student.encode_image(given.reference), dim=-1) @ sentences.t()
    for ours, theirs in ((new, old), (new.t(), old.t())):
        target = F.softmax(theirs / TEMPERATURE, dim=1)
        log = F.log_softmax(ours / TEMPERATURE, dim=1)
        loss = loss - TEMPERATURE**2 * (target * log).sum(dim=1).mean()
    loss.backward()
    optimiser.step()
    return loss.item()


def our_step(student: Any, store: Store, given: Inputs, optimiser: Any, precision: str) -> float:
    """The teacher's side from store, both batches of images in one pass."""
    optimiser.zero_grad()
    scale = float(student.logit_scale.detach().exp())
    with in_precision(given.x.device, precision):
        W = unit_texts(student, given.prompts)
        both = unit_images(student, torch.cat([given.x, given.reference]))
    z, z_reference = both.split(BATCH)
    flags = {"image": True, "text": True}
    loss = classification_loss(z, W, given.labels, scale, SMOOTHING)
    loss = loss + zscl_loss(z_reference, store.z, store.W, scale, TEMPERATURE, **flags)
    loss.backward()
    optimiser.step()
    return loss.item()


def filled(teacher: Any, given: Inputs) -> Store:
    with torch.no_grad():
        return Store(unit_images(teacher, given.reference), unit_texts(teacher, given.sentences))


def student_of(teacher: Any, *, fused: bool) -> tuple[Any, torch.optim.Optimizer]:
    """An equal of the teacher that is to be trained, all but the logit scale."""
    student = copy.deepcopy(teacher).requires_grad_()
    student.logit_scale.requires_grad_(False)
    trained = [p for p in student.parameters() if p.requires_grad]
    return student, torch.optim.AdamW(trained, lr=LR, weight_decay=0.0, fused=fused)


def timed(step: Callable[[], float]) -> tuple[float, float, float]:
    """Wall seconds, the process's own seconds of all threads, and the loss."""
    wall, own = time.perf_counter(), time.process_time()
    loss = step()
    return time.perf_counter() - wall, time.process_time() - own, loss


def _place(device: torch.device, threads: int) -> str:
    return f"{threads} threads" if device.type == "cpu" else torch.cuda.get_device_name()


def main() -> None:
    """Time the three in turns and write ``reports/bench/zscl.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="", help="not used: the images are noise")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--classes", type=int, default=CLASSES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # helps the peer as well
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = inputs(options.classes, device)
    teacher = network(options.blocks, device).requires_grad_(False)
    stores: list[Store] = []
    filling = turns.seconds(lambda: stores.append(filled(teacher, given)))
    work: dict[str, Callable[[], float]] = {}
    student, optimiser = student_of(teacher, fused=False)
    work["peer"] = lambda: published_step(student, teacher, given, optimiser)
    for precision in BARS:
        pair = student_of(teacher, fused=True)
        work[precision] = lambda pair=pair, precision=precision: our_step(
            pair[0], stores[0], given, pair[1], precision
        )
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in work}
    for turn in range(options.turns + 1):  # the first makes room and is not counted
        for name, step in work.items():
            found[name].append(timed(step))
        took = ", ".join(f"{name} {made[-1][0]:.1f} s" for name, made in found.items())
        print(f"turn {turn} of {options.turns}: {took}", flush=True)
    counted = {name: made[1:] for name, made in found.items()}
    summary: dict[str, Any] = {
        "what": f"one step: batch {BATCH}, {SENTENCES} reference sentences, {options.classes} "
        f"classes; widths of {ARCHITECTURE}, {options.blocks} of 12 blocks in each network, "
        f"random weights, {_place(device, options.threads)}",
        "peer_seconds": turns.spread([wall for wall, _, _ in counted["peer"]]),
        "peer_processor_seconds": turns.spread([own for _, own, _ in counted["peer"]]),
        "seconds_to_fill_the_store_once": filling,
    }
    for name, bar in BARS.items():
        pairs = list(zip(counted["peer"], counted[name], strict=True))
        losses = zip(found["peer"], found[name], strict=True)  # the first, not counted one too
        summary[name] = {
            "seconds": turns.spread([wall for _, (wall, _, _) in pairs]),
            "processor_seconds": turns.spread([own for _, (_, own, _) in pairs]),
            "ratio": turns.spread([a[0] / b[0] for a, b in pairs]),
            "ratio_of_processor_seconds": turns.spread([a[1] / b[1] for a, b in pairs]),
            "bar": bar,
            "relative_difference_of_losses": max(abs(b[2] / a[2] - 1) for a, b in losses),
        }
    path = turns.write("zscl" if device.type == "cpu" else "zscl-gpu", summary)
    print(summary["what"])
    for name, bar in BARS.items():
        one = summary[name]
        print(
            f"{name}: ours {turns.said(one['seconds'], 's')}, peer "
            f"{turns.said(summary['peer_seconds'], 's')}, ratio {turns.said(one['ratio'], 'x')} "
            f"(bar {bar}), of processor time {turns.said(one['ratio_of_processor_seconds'], 'x')}; "
            f"losses differ by {one['relative_difference_of_losses']:.1e}"
        )
    print(path)
    if summary["float32"]["relative_difference_of_losses"] > EQUAL:
        raise SystemExit("zscl: expected the losses of both to agree in float32, they do not")


if __name__ == "__main__":
    main()
