"""What each named method of the sequence study is: its loss, what trains, and what is added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from carryover.config.sequence_parts import METHODS as NAMES

if TYPE_CHECKING:
    from carryover.config.sequence import Sequence

Averaged = Literal[
    "", "running-mean", "running-mean-wise", "pull", "ema", "merge", "at-test", "task-mean"
]

ON_THE_WAY = ("running-mean", "running-mean-wise", "pull", "ema")  # averaged every few updates


@dataclass(frozen=True)
class Distillation:
    """What holds the student to a teacher.

    Args:
        images: the batch that both look at: reference images, the task's own (not cropped), or
            stored ones of earlier tasks, of which the first task has none.
        sentences: what the images are compared with: reference sentences, the task's prompts, or
            sentences of random words.
        loss: ``logits`` compares images with sentences (`distill.zscl_loss`), ``features`` the
            embeddings themselves, ``similarity`` the images with one another.
        teacher: key of `sequence.distill.teachers`.
    """

    images: Literal["reference", "task", "memory"]
    sentences: Literal["reference", "task", "random"]
    loss: Literal["logits", "features", "similarity"]
    teacher: Literal["lwf", "lwf-vr", "icarl", "zscl"]


@dataclass(frozen=True)
class Method:
    """One arm of the study; the plain one fine-tunes all of both networks.

    Args:
        way: ``one-by-one`` trains task after task, ``joint`` on all at once; the others train no
            network: ``zero-shot``, and ``ncm`` and ``ridge`` on stored embeddings.
        distillation: key of `DISTILLATIONS`, "" for none.
        adapters: how LoRA's adapters are shared (`lora.SHARING`), "" for training all weights.
        ogd: whether updates are kept orthogonal to gradients of earlier tasks.
        averaging: ``running-mean``, ``running-mean-wise``, ``pull`` and ``ema`` act in training,
            ``merge`` at the end of a task, ``at-test`` and ``task-mean`` on what is tested alone.
        consolidation: whether weights are drawn to those before the task.
    """

    way: Literal["one-by-one", "joint", "zero-shot", "ncm", "ridge"] = "one-by-one"
    distillation: str = ""
    adapters: Literal["", "none", "shared", "split"] = ""
    ogd: bool = False
    averaging: Averaged = ""
    consolidation: bool = False

    def __post_init__(self) -> None:
        if self.adapters and self.ogd:
            raise ValueError(
                "a method: expected adapters or ogd, got both; adapters begin anew with each task, "
                "so that directions of one are none of the next one's"
            )

    @property
    def trains(self) -> bool:
        """Whether a network trains."""
        return self.way in ("one-by-one", "joint")

    @property
    def kind(self) -> str:
        """Key of `sequence.lrs`."""
        return "lora" if self.adapters else "full"


def item_of(method: str) -> str:
    """The stage's item that a method belongs to."""
    return next(item for item, methods in NAMES.items() if method in methods)


def length_faults(study: Sequence, updates: int) -> list[str]:
    """Numbers of updates for which a task of so many has no room."""
    used = [METHODS[name] for item in study.items for name in study.methods[item]]
    lengths = {"warm_up": study.warm_up} if any(each.trains for each in used) else {}
    if any(each.averaging in ON_THE_WAY for each in used):
        lengths |= {"average.every": study.average.every}
    return [
        f"sequence.{name}: expected fewer updates than the {updates} of a task, got {value}"
        for name, value in lengths.items()
        if value >= updates
    ]


def needs_reference(methods: Iterable[str]) -> bool:
    """Whether one of some methods looks at reference images."""
    used = [METHODS[name].distillation for name in methods]
    return any(DISTILLATIONS[name].images == "reference" for name in used if name)


DISTILLATIONS: dict[str, Distillation] = {
    "lwf": Distillation("task", "task", "logits", "lwf"),
    "lwf-vr": Distillation("task", "random", "logits", "lwf-vr"),
    "icarl": Distillation("memory", "task", "logits", "icarl"),
    "zscl": Distillation("reference", "reference", "logits", "zscl"),
    "features": Distillation("reference", "reference", "features", "zscl"),
    "similarity": Distillation("reference", "reference", "similarity", "zscl"),
}

ZSCL = Method(distillation="zscl", averaging="running-mean", consolidation=True)

METHODS: dict[str, Method] = {
    "zero-shot": Method("zero-shot"),
    "ncm": Method("ncm"),
    "ridge": Method("ridge"),
    "joint": Method("joint"),
    "finetune": Method(),
    "lwf": Method(distillation="lwf"),
    "lwf-vr": Method(distillation="lwf-vr"),
    "icarl": Method(distillation="icarl"),
    "wc": Method(consolidation=True),
    "zscl": ZSCL,
    "zscl-star": Method(distillation="zscl", averaging="running-mean"),
    "zscl-plain": Method(distillation="zscl"),
    "feature-mse": Method(distillation="features"),
    "image-similarity": Method(distillation="similarity"),
    "ogd": Method(ogd=True),
    "zscl-ogd": replace(ZSCL, ogd=True),
    "finetune-lora": Method(adapters="none"),
    "zscl-lora": replace(ZSCL, adapters="none"),
    "zscl-lora-shared": replace(ZSCL, adapters="shared"),
    "zscl-lora-shared-split": replace(ZSCL, adapters="split"),
    "wise-ft": Method(averaging="merge"),
    "wise-at-test": Method(averaging="at-test"),
    "running-mean": Method(averaging="running-mean"),
    "running-mean-wise": Method(averaging="running-mean-wise"),
    "moving-average": Method(averaging="pull"),
    "ema": Method(averaging="ema"),
    "task-mean": Method(averaging="task-mean"),
}
