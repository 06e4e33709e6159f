"""What a student of the sequence study is held to in one task: images, sentences, a teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from carryover.adapt import averaging, distill, replay
from carryover.adapt_start import Examples
from carryover.config.sequence import Sequence
from carryover.distributed import Ranks
from carryover.sequence_methods import DISTILLATIONS, Method
from carryover.sequence_start import Start, Task
from carryover.train import in_precision

if TYPE_CHECKING:
    from carryover.config.params import Params

PASS_IMAGES = 256  # images a forward pass where nothing trains


class Pool:
    """Images of one or several sets, counted through."""

    def __init__(self, parts: Several[Examples]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def images(self, rows: Int64[Tensor, " b"]) -> Float[Tensor, "b 3 size size"]:
        """Some of them as the encoder takes them, not cropped at random."""
        if len(self.parts) == 1:
            return self.parts[0].images(rows)
        found, places, first = [], [], 0
        for part in self.parts:
            inside = ((rows >= first) & (rows < first + len(part))).nonzero()[:, 0]
            if len(inside):
                found.append(part.images(rows[inside] - first))
                places.append(inside)
            first += len(part)
        return torch.cat(found)[torch.cat(places).argsort()]


@dataclass(frozen=True, eq=False)
class Distilled:
    """What the teacher makes of the images and sentences, computed once.

    Attributes:
        z, W: the teacher's unit embeddings of all images of the pool, and of the sentences.
        kind: `sequence_methods.Distillation.loss`.
    """

    pool: Pool
    z: Float[Tensor, "n d"]
    W: Float[Tensor, "m d"]
    kind: str

    def loss(
        self, study: Sequence, z: Float[Tensor, "b d"], rows: Int64[Tensor, " b"], scale: float
    ) -> Float[Tensor, ""]:
        """Of a student's unit embeddings of some of the images."""
        how = study.distill
        teacher = self.z[rows.to(self.z.device)]
        if self.kind == "features":
            return distill.feature_mse(z, teacher)
        if self.kind == "similarity":
            return how.weight * distill.image_similarity_loss(z, teacher, scale, how.temperature)
        return distill.zscl_loss(
            z,
            teacher,
            self.W,
            scale,
            how.temperature,
            image=how.by_image,
            text=how.by_text,
            weight=how.weight,
        )


def distilled(
    params: Params,
    start: Start,
    network: nn.Module,
    task: Task,
    examples: Examples,
    method: Method,
    memory: replay.Memory,
) -> Distilled | None:
    """What a method distils from in a task; None for nothing.

    Args:
        network: as it is before the task.
        examples: the task's training images.
    """
    if not method.distillation:
        return None
    study, how = params.sequence, DISTILLATIONS[method.distillation]
    kind = study.distill.teachers[how.teacher]
    reference = start.reference
    if how.images == "memory":
        pool = Pool([start.tasks[name].train.take(rows) for name, rows in memory.items()])
    elif how.images == "task":
        pool = Pool([examples])
    else:
        assert reference is not None
        pool = Pool([reference.images])
    if not len(pool):
        return None
    teacher = _teacher(study, start, network, kind)
    if kind == "zero-shot":  # every image's embedding by it is stored
        stored = torch.cat([part.embeddings for part in pool.parts])
        z = F.normalize(stored, dim=-1)
    else:
        z = torch.cat(
            [embedded(teacher, part, study.precision, start.ranks) for part in pool.parts]
        )
    if how.sentences == "reference":
        assert reference is not None
        ids = reference.sentence_ids
    else:
        ids = task.prompt_ids if how.sentences == "task" else start.random_ids
    if how.sentences == "reference" and kind == "zero-shot" and reference is not None:
        W = reference.W
    else:
        with torch.no_grad():
            W = texts(teacher, ids, start.ranks)
    return Distilled(pool, z, W, how.loss)


def _teacher(study: Sequence, start: Start, network: nn.Module, kind: str) -> nn.Module:
    """Zero-shot, the model before the task, or a mix of their weights."""
    if kind == "zero-shot":
        return start.encoder.model
    if kind == "previous":
        return network
    teacher = copy.deepcopy(network)
    zero_shot = start.encoder.model.state_dict()
    mixed = averaging.mixed(zero_shot, network.state_dict(), study.distill.teacher_mix)
    teacher.load_state_dict(mixed)
    return teacher


def embedded(
    network: nn.Module, examples: Examples, precision: str, ranks: Ranks
) -> Float[Tensor, "n d"]:
    """Unit embeddings of images by a network as it stands, without gradients."""
    device = examples.labels.device
    with torch.no_grad(), in_precision(device, precision):
        parts = ranks.mine(torch.arange(len(examples))).split(PASS_IMAGES)
        z = torch.cat([distill.unit_images(network, examples.images(i)) for i in parts])
        return ranks.gathered(z, len(examples))


def texts(network: nn.Module, ids: Int64[Tensor, "c length"], ranks: Ranks) -> Float[Tensor, "c d"]:
    """Unit embeddings of sentences, with gradients where they are on."""
    return ranks.gathered(distill.unit_texts(network, ranks.mine(ids)), len(ids))
