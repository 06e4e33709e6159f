"""One row of MTIL's accuracy matrix: class prompts all at once against class by class, in turns.

A row tests one network on every set: each class's prompts are encoded, 34 a class of Caltech-101, 8
of DTD, 1 of Flowers and Food-101, and so are the test images. The peer does what the published code
does: a class's prompts at their full 77 tokens, class after class. Ours passes them together, up to
the last token of the longest. Images cost both the same and are timed apart, in batches of 16.

Random weights in the shapes of ViT-B/16 with as many blocks in both networks as asked for; prompts
are drawn tokens, of the lengths that names have.

    make bench
    python benchmarks/evaluation.py --turns 5 --blocks 12
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import turns
from carryover.adapt.distill import unit_images
from carryover.distributed import ALONE
from carryover.sequence_measures import text_head
from zscl import PROMPT_TOKENS, network, tokens

SETS = {"caltech101": (4, 34), "dtd": (8, 8), "flowers": (12, 1), "food-101": (12, 1)}
IMAGES = 16
EQUAL = 1e-4  # greatest difference of the heads' numbers that passes


def by_class(model: Any, ids: Tensor, templates: int) -> Tensor:
    """The head as the published code makes it, [classes, d]."""
    made = []
    with torch.no_grad():
        for group in ids.split(templates):
            W = F.normalize(model.encode_text(group), dim=-1).mean(0)
            made.append(W / W.norm())
    return torch.stack(made)


def main() -> None:
    """Time both in turns and write ``reports/bench/evaluation.json``."""
    parser = turns.parser(__doc__, "not used: prompts and images are drawn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = network(options.blocks, torch.device("cpu")).requires_grad_(False)
    random = torch.Generator().manual_seed(0)
    lengths = (PROMPT_TOKENS[0], PROMPT_TOKENS[1] + 1)
    prompts = {
        name: (tokens(count * templates, lengths, random), templates)
        for name, (count, templates) in SETS.items()
    }
    x = torch.randn(IMAGES, 3, 224, 224, generator=random)

    def ours() -> list[Tensor]:
        return [
            text_head(model, SimpleNamespace(all_prompt_ids=ids, templates=templates), ALONE)
            for ids, templates in prompts.values()
        ]

    def peer() -> list[Tensor]:
        return [by_class(model, *each) for each in prompts.values()]

    differences = [float((a - b).abs().max()) for a, b in zip(ours(), peer(), strict=True)]
    mine, theirs, images = [], [], []
    for turn in range(options.turns):
        theirs.append(turns.seconds(peer))
        mine.append(turns.seconds(ours))
        images.append(turns.seconds(lambda: unit_images(model, x)))
        print(f"turn {turn + 1} of {options.turns}", flush=True)
    count = sum(len(ids) for ids, _ in prompts.values())
    summary = {
        "what": f"{count} prompts of {sum(n for n, _ in SETS.values())} classes of {len(SETS)} "
        f"sets; ViT-B/16's widths, {options.blocks} of 12 blocks, random weights, "
        f"{options.threads} threads, float32",
        "seconds": turns.spread(mine),
        "peer_seconds": turns.spread(theirs),
        "ratio": turns.spread([b / a for a, b in zip(mine, theirs, strict=True)]),
        "seconds_of_an_image": turns.spread([each / IMAGES for each in images]),
        "greatest_difference": max(differences),
    }
    path = turns.write("evaluation", summary)
    print(
        f"{summary['what']}: ours {turns.said(summary['seconds'], 's')}, class by class "
        f"{turns.said(summary['peer_seconds'], 's')}, ratio {turns.said(summary['ratio'], 'x')}; "
        f"an image {turns.said(summary['seconds_of_an_image'], 's')}"
    )
    print(path)
    if max(differences) > EQUAL:
        raise SystemExit("evaluation: expected equal heads of both, they differ")


if __name__ == "__main__":
    main()
