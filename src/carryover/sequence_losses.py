"""The loss of a batch in the sequence study: in one piece or in parts, by one process or several.

A batch of images, with the reference images that go with it, is cut into `sequence.accumulate`
parts. Each part's loss is passed back before the next is computed, so that memory holds one part's
activations alone. Losses that are means over images (cross-entropy, distillation over the sentences
of an image, squared distance of embeddings) add up to those of the whole batch. Losses that
compare images with one another (distillation over the images of a sentence, similarity of images)
see the images of their part alone: the mean over parts of the loss within each.

Where several processes train together (`distributed.Ranks`), each part is shared out among them
and its embeddings are gathered before the loss: nothing changes but the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.adapt import distill
from carryover.adapt.averaging import Weights
from carryover.adapt_start import Examples
from carryover.data.crops import boxes, crop
from carryover.data.transforms import to_rgb
from carryover.distributed import Ranks
from carryover.sequence_carried import Place
from carryover.sequence_distilling import Distilled, texts
from carryover.sequence_methods import METHODS
from carryover.sequence_start import Start
from carryover.train import Loss, in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params

Piece = Callable[[], Tensor]  # computes a part of a batch's loss, as it counts in the whole


def loss_of(
    params: Params,
    start: Start,
    network: nn.Module,
    place: Place,
    held: Distilled | None,
    student: Mapping[str, nn.Parameter],
    before: Weights,
    crops: torch.Generator,
    draws: torch.Generator,
) -> Loss:
    """The loss of a batch of rows of the task.

    Args:
        crops, draws: of the task's images, and of reference images.
    """
    study, scale, method = params.sequence, start.encoder.logit_scale, METHODS[place.cell.method]
    ranks = start.ranks

    def of_part(
        rows: Int64[Tensor, " m"],
        labels: Int64[Tensor, " m"],
        where: Float[Tensor, "m 2 3"] | None,
        chosen: Int64[Tensor, " r"] | None,
        share: float,
        reference_share: float,
    ) -> Float[Tensor, ""]:
        """Of some of the batch's images and reference images, these shares of all of them."""
        x = cropped(place.examples, rows, where, ranks)
        own = len(x)
        if held is not None and chosen is not None:
            x = torch.cat([x, held.pool.images(ranks.mine(chosen))])  # one pass for both
        with in_precision(start.device, study.precision):
            z = distill.unit_images(network, x)
            head: nn.Module | None = getattr(network, "head", None)
            W = texts(network, place.task.prompt_ids, ranks) if head is None else None
        z_own = ranks.gathered(z[:own], len(rows))
        if head is not None:
            value = F.cross_entropy(head(z_own), labels, label_smoothing=study.smoothing)
        else:
            assert W is not None
            value = distill.classification_loss(z_own, W, labels, scale, study.smoothing)
        value = share * value
        if held is not None and chosen is not None:
            z_reference = ranks.gathered(z[own:], len(chosen))
            value = value + reference_share * held.loss(study, z_reference, chosen, scale)
        return value

    def loss(
        _: nn.Module, rows: Int64[Tensor, " b"], labels: Int64[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        where = boxes(len(rows), study.crop, crops)
        chosen = None
        if held is not None:
            chosen = torch.randint(len(held.pool), (study.batch_size,), generator=draws)
        count = min(study.accumulate, len(rows))
        pieces: list[Piece] = []
        for index, own_where, own_chosen in zip(
            torch.arange(len(rows)).tensor_split(count),
            split(where, count),
            split(chosen, count),
            strict=True,
        ):
            share = len(index) / len(rows)
            of_reference = 0.0 if own_chosen is None else len(own_chosen) / study.batch_size
            own_labels = labels[index.to(labels.device)]
            pieces.append(
                partial(
                    of_part, rows[index], own_labels, own_where, own_chosen, share, of_reference
                )
            )
        if method.consolidation:
            strength = study.consolidation
            pieces.append(partial(distill.weight_consolidation, student, before, strength))
        return summed(pieces, passed=study.accumulate > 1)

    return loss


def split(values: Tensor | None, count: int) -> Sequence[Tensor | None]:
    """Values in so many parts; None as often where there are none."""
    return [None] * count if values is None else values.tensor_split(count)


def summed(pieces: Sequence[Piece], *, passed: bool) -> Float[Tensor, ""]:
    """The sum of some losses.

    Args:
        passed: each but the last is passed back as soon as it is known, which adds its gradients to
            those of the parameters and frees what it was computed of; the sum then has the last
            one's graph alone.
    """
    total = torch.zeros(())
    for number, piece in enumerate(pieces, start=1):
        value = piece()
        if passed and number < len(pieces):
            value.backward()
            value = value.detach()
        total = value if number == 1 else total + value
    return total


def cropped(
    examples: Examples,
    rows: Int64[Tensor, " b"],
    where: Float[Tensor, "b 2 3"] | None,
    ranks: Ranks,
) -> Float[Tensor, "m 3 size size"]:
    """This process's share of some training images as the encoder takes them, each cropped."""
    assert examples.pixels is not None
    x = examples.pixels[examples.rows[ranks.mine(rows.cpu())]].to(examples.labels.device)
    where = None if where is None else ranks.mine(where)
    return examples.preprocess(to_rgb(crop(x.float() / 255, where)))
