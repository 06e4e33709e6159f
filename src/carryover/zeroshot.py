"""How good an encoder is on data sets by their class prompts, with nothing trained.

``carryover zeroshot`` tests an encoder as it is, or with weights that training left behind.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from carryover import bank, checkpoints, run
from carryover.data import store
from carryover.data.images import Images
from carryover.embed import SETS, prepared
from carryover.errors import ConfigError, DataError, listed
from carryover.files import digest, write_text
from carryover.measure.statistics import wilson
from carryover.models import encoders, weights
from carryover.models.encoders import Encoder
from carryover.models.features import Feature
from carryover.models.prompts import GENERIC, TEMPLATES, class_prompts, zero_shot_logits

if TYPE_CHECKING:
    from carryover.bank_out import Precision
    from carryover.config.params import Params

PROJECTED = Feature("projected")
TOP = 5
BATCH = 256  # images a forward pass of an encoder that params.yaml does not list
COLUMNS = ("iteration", "top1", "top5")  # of the original's metrics_<dataset>.csv, in per cent


@dataclass(frozen=True, eq=False)
class Model:
    """An encoder with text, and how it is run.

    Attributes:
        adapted: it has the weights of a file, whose embeddings are not kept in the bank.
    """

    encoder: Encoder
    precision: Precision
    batch_size: int
    device: torch.device
    adapted: bool


@dataclass(frozen=True)
class Score:
    """Accuracies on one set, in 0..1; `generic`: the set has no prompts of its own."""

    dataset: str
    top1: float
    top5: float
    per_class: float
    n: int
    generic: bool

    def line(self) -> str:
        """In per cent, top-1 with its 95 % interval."""
        found = wilson(round(self.top1 * self.n), self.n)
        note = f"; prompt: {GENERIC[0]}" if self.generic else ""
        return (
            f"{self.dataset}: {100 * self.top1:.1f} % [{100 * found.low:.1f}, "
            f"{100 * found.high:.1f}], top-5 {100 * self.top5:.1f}, mean over classes "
            f"{100 * self.per_class:.1f}; n = {self.n}{note}"
        )


def load(params: Params, name: str, file: Path | None = None) -> Model:
    """An encoder of ``params.yaml`` or a source, with the weights of a file where one is given.

    Args:
        file: state of the whole model (of open_clip's as an encoder's ``weights``), or a
            checkpoint of a study, which has what differs from the encoder's own.
    Raises:
        ConfigError: an unknown encoder, one without text, or weights of another activation.
        DataError: weights of another network or not finite, or a checkpoint of another start or
            without text.
    """
    entry = params.encoders.get(name)
    if entry is None and ":" not in name and name not in encoders.SOURCES:
        raise ConfigError(
            f"encoder: expected one of {listed(params.encoders)}, or a source such as "
            f"open-clip:ViT-B-32, got {name!r}; `carryover encoders` has them all"
        )
    own = None  # weights that open_clip's loader takes
    if file is not None and (entry.source if entry else name).startswith("open-clip:"):
        own = None if _is_checkpoint(file) else str(file.resolve())
    if entry:
        encoder = prepared(replace(entry, weights=own or entry.weights))
    else:
        encoder = encoders.load(name, own)
    if encoder.text is None:
        raise ConfigError(f"encoder: expected one with text, {name} has none; name a CLIP")
    if file is not None:
        encoder = encoder if own else _with_weights(encoder, file)
        _refuse_not_finite(encoder, file)
    device = run.device(run.chosen_device())
    encoder.model.to(device)
    precision: Precision = entry.precision if entry else "float32"
    batch_size = entry.batch_size if entry else BATCH
    return Model(encoder, precision, batch_size, device, file is not None)


def _is_checkpoint(file: Path) -> bool:
    return not file.is_dir() and checkpoints.ABOUT in weights.read(file).metadata


def _refuse_not_finite(encoder: Encoder, file: Path) -> None:
    for name, tensor in encoder.model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            raise DataError(
                f"{file}: expected finite weights, got {name} with nan or inf; take those of "
                "before the training diverged"
            )


def _with_weights(encoder: Encoder, file: Path) -> Encoder:
    """The encoder with the weights of a file, in place, and digests that tell it apart."""
    assert encoder.text is not None
    found = weights.read(file)
    if checkpoints.ABOUT in found.metadata:
        _with_changes(encoder, file)
    else:
        weights.load_(encoder.model, found.tensors, file)
    of_text = encoder.text.module or encoder.model
    return replace(
        encoder,
        weights=weights.digest(encoder.image.state_dict(), encoder.weights),
        text=replace(
            encoder.text, digest=weights.digest(of_text.state_dict(), encoder.text.digest)
        ),
        logit_scale=float(encoder.model.get_parameter("logit_scale").detach().exp()),
    )


def _with_changes(encoder: Encoder, file: Path) -> None:
    """Give an encoder, in place, what a study's training changed of it."""
    assert encoder.text is not None
    found = checkpoints.read(file)
    if found.what != "model":
        raise DataError(
            f"{file}: expected a model with its text, as the sequence study keeps it, got one of "
            f"{found.study} without; `carryover run survival` looks at those"
        )
    start = digest([encoder.weights, encoder.text.digest])
    if found.start != start:
        raise DataError(
            f"{file}: expected a model that began from the weights {start}, got one that began "
            f"from {found.start} ({found.network}); name that encoder, or run "
            f"`dvc repro {found.study}@{found.item}`"
        )
    weights.load_(encoder.model, encoder.model.state_dict() | found.tensors, file)


def evaluate(model: Model, dataset: str, split: str = "test") -> Score:
    """Accuracies on all images of a split of a prepared set.

    Raises:
        DataError: the set is not prepared or has no such split.
    """
    dataset = store.prepared(SETS, dataset, "zeroshot").name
    images = store.load(SETS / dataset, split)
    with bank_of(model) as root:
        W = head_of(model, class_prompts(dataset, images.class_names), root)
        z = _embedded(model, images, dataset, root)
    logits, labels = zero_shot_logits(z, W, model.encoder.logit_scale), images.labels
    right = (logits.argmax(1) == labels).double()
    top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    by_class = torch.stack([right[labels == c].mean() for c in labels.unique()])
    return Score(
        dataset,
        float(right.mean()),
        float((top == labels[:, None]).any(1).double().mean()),
        float(by_class.mean()),
        len(labels),
        dataset not in TEMPLATES,
    )


@contextmanager
def bank_of(model: Model) -> Iterator[Path]:
    """The working bank; for adapted weights one that is gone afterwards."""
    if not model.adapted:
        yield run.scratch_root() / "bank"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def head_of(model: Model, prompts: Sequence[Sequence[str]], root: Path) -> Float[Tensor, "c d"]:
    """The zero-shot classifier, on the CPU: for each class the mean over its prompts, made unit."""
    flat = [prompt for group in prompts for prompt in group]
    values = bank.text_embeddings(model.encoder, flat, root=root, precision=model.precision)
    unit = F.normalize(values, dim=-1).split([len(group) for group in prompts])
    return F.normalize(torch.stack([group.mean(0) for group in unit]), dim=-1)


def _embedded(model: Model, images: Images, what: str, root: Path) -> Float[Tensor, "n d"]:
    left = -(-len(images) // model.batch_size)  # batches
    with run.progress(what, left) as advance:

        def count(rows: int) -> None:
            nonlocal left
            done = 1 if rows else min(left, max(1, bank.SHARD_ROWS // model.batch_size))
            left -= done
            for _ in range(done):
                advance()

        found = bank.embed(
            model.encoder,
            images,
            [PROJECTED],
            root=root,
            precision=model.precision,
            batch_size=model.batch_size,
            device=model.device,
            advance=count,
        )
    return found[PROJECTED].values


def metrics_csv(folder: Path, scores: Sequence[Score], iteration: int) -> list[Path]:
    """Add scores to ``metrics_<dataset>.csv``, the original's columns; returns the files.

    A row of the same iteration is replaced, as there. Accuracies are in per cent.

    Raises:
        DataError: a file that is there has other columns.
    """
    written = []
    for score in scores:
        rows = metrics_rows(folder, score.dataset)
        path = folder / f"metrics_{score.dataset}.csv"
        rows[iteration] = (
            str(iteration),
            f"{100 * score.top1:.4f}",
            f"{100 * score.top5:.4f}",
        )
        text = [COLUMNS, *(rows[i] for i in sorted(rows))]
        write_text(path, "".join(",".join(row) + "\n" for row in text))
        written.append(path)
    return written


def metrics_rows(folder: Path, dataset: str) -> dict[int, tuple[str, ...]]:
    """Lines of a set's ``metrics_<dataset>.csv`` by iteration; none where there is no file.

    Raises:
        DataError: the folder is a file, or the file has other columns.
    """
    path = folder / f"metrics_{dataset}.csv"
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: expected a folder for {path.name}, got a file; name another")
    if not path.exists():
        return {}
    head, *lines = list(csv.reader(io.StringIO(path.read_text()))) or [[]]
    if tuple(head) != COLUMNS or not all(_is_row(line) for line in lines):
        raise DataError(
            f"{path}: expected columns {','.join(COLUMNS)} with numbers, got "
            f"{','.join(head)!r}; name another folder"
        )
    return {int(line[0]): tuple(line) for line in lines}


def _is_row(line: Sequence[str]) -> bool:
    return len(line) == len(COLUMNS) and line[0].isdigit()
