"""A frozen encoder under continual learning: heads on stored embeddings against encoding anew.

ViT-B/32 with random weights, frozen, with a linear head; i.i.d. chunks of handwritten digits, three
experiences of five epochs, a test of all test images after each. The peer is Avalanche's Naive
strategy with its own loaders on images, whose network encodes every batch of every epoch and test.
Ours embeds through the bank, empty and filled, and trains the head on row numbers. Both must end
with features and trained weights within 1e-5 and with the same accuracy.

A turn times a slice; S-MNIST (60,000 and 10,000 images) is extrapolated from the cost of an image,
but for the training of the head, which is timed at full size.

    python benchmarks/continual.py --turns 5
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import turns
from carryover import bank
from carryover.adapt.avalanche import Settings, import_avalanche, run_stream
from carryover.adapt.avalanche_data import seed_all
from carryover.adapt.avalanche_parts import Silent
from carryover.bank_key import network_digest
from carryover.data import store
from carryover.data.images import Images
from carryover.data.streams import Stream, iid_chunks, own_random
from carryover.errors import KitError
from carryover.models import encoders
from carryover.models.encoders import Encoder
from carryover.models.features import Feature
from carryover.prepare import SETS

SOURCE = "open-clip:ViT-B-32"
END, CPU = Feature("projected"), torch.device("cpu")
WIDTH, CLASSES = 512, 10
PER_CLASS, TESTED = 60, 10  # training and test images of a class in a slice
TRAIN, TEST = 60_000, 10_000  # images of S-MNIST
EXPERIENCES, LR, MOMENTUM, SEED = 3, 0.05, 0.9, 0
BATCH, SLICE_BATCH = 100, 50
BARS = {"empty": 4.0, "filled": 100.0}


def settings(batch_size: int) -> Settings:
    return Settings(
        strategy="naive",
        batch_size=batch_size,
        eval_batch_size=batch_size,
        epochs=5,
        memory=0,
        ewc_lambda=0.0,
        ewc_decay=0.0,
        lwf_alpha=0.0,
        lwf_temperature=1.0,
        optimiser_state="kept",
    )


def sliced(images: Images) -> tuple[Images, Stream]:
    """So many images of each class and the stream over them, training images first."""
    places = [(images.labels == label).nonzero()[: PER_CLASS + TESTED, 0] for label in range(10)]
    train = torch.cat([part[:PER_CLASS] for part in places])
    chosen = images.select(torch.cat([train, *[part[PER_CLASS:] for part in places]]))
    return chosen, chunks(chosen.labels, len(train))


def chunks(labels: Tensor, train: int) -> Stream:
    rows = torch.arange(len(labels))
    given = (rows[:train], labels[:train], rows[train:], labels[train:])
    return iid_chunks(*given, EXPERIENCES, seed=42, shuffle=False)


def new_head() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return nn.Linear(WIDTH, CLASSES)


def head_trained(
    embeddings: Tensor, labels: Tensor, stream: Stream, batch_size: int
) -> tuple[float, nn.Linear]:
    """A head trained on stored embeddings, and its final accuracy."""
    head = new_head()
    optimiser = torch.optim.SGD(head.parameters(), LR, momentum=MOMENTUM)
    found = run_stream(
        *(head, lambda rows: embeddings[rows], labels, stream, optimiser, settings(batch_size)),
        seed=SEED,
        device=CPU,
        before=False,
    )[-1]
    return float((found.logits.argmax(dim=1) == labels[found.rows]).double().mean()), head


def embedded(encoder: Encoder, images: Images, root: Path) -> Tensor:
    found = bank.embed(
        *(encoder, images, [END]),
        root=root,
        precision="float32",
        batch_size=SLICE_BATCH,
        device=CPU,
    )
    return found[END].values


class Encoding(nn.Module):
    """A frozen encoder that runs in every forward pass, and a head."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.head, self.encoded = encoder, new_head(), 0

    def features(self, x: Tensor) -> Tensor:
        self.encoded += len(x)
        with torch.no_grad():
            return self.encoder.image(self.encoder.preprocess(x)).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def by_avalanche(encoder: Encoder, images: Images, stream: Stream) -> tuple[float, Encoding]:
    """Final accuracy of Avalanche's Naive on images, and its network, which counts them."""
    from avalanche.benchmarks import benchmark_from_datasets, with_task_labels
    from avalanche.benchmarks.utils import (
        ConstantSequence,
        DataAttribute,
        TaskAwareSupervisedClassificationDataset,
        TaskLabels,
    )
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive
    from torch.utils.data import TensorDataset

    pixels = images.floats(torch.arange(len(images)))

    def data(rows: Tensor) -> Any:
        named = DataAttribute(images.labels[rows].tolist(), "targets")
        return TaskAwareSupervisedClassificationDataset(
            [TensorDataset(pixels[rows], images.labels[rows])],
            data_attributes=[named, TaskLabels(ConstantSequence(0, len(rows)))],
        )

    made = with_task_labels(
        benchmark_from_datasets(
            train=[data(task.train) for task in stream.tasks], test=[data(stream.tasks[0].test)]
        )
    )
    network, used = Encoding(encoder), settings(SLICE_BATCH)
    strategy = Naive(
        model=network,
        optimizer=torch.optim.SGD(network.head.parameters(), LR, momentum=MOMENTUM),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=used.batch_size,
        train_epochs=used.epochs,
        eval_mb_size=used.eval_batch_size,
        evaluator=EvaluationPlugin(*accuracy_metrics(stream=True), loggers=[Silent()]),
    )
    with own_random():
        for i, experience in enumerate(made.train_stream):
            seed_all(SEED, i)
            strategy.train(experience, eval_streams=[])
            metrics = strategy.eval(made.test_stream)
    return float(metrics["Top1_Acc_Stream/eval_phase/test_stream/Task000"]), network


def main() -> None:
    """Time all of it in turns and write ``reports/bench/continual.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="not used: the images are the embedded digits")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of both")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        digits = store.load(SETS / "digits", "train")
    except KitError as error:
        raise SystemExit(f"continual: {error}") from error
    import_avalanche()
    encoder = encoders.load(SOURCE)
    encoder.image.requires_grad_(False).eval()
    images, stream = sliced(digits)
    labels = torch.arange(TRAIN + TEST) % CLASSES
    whole = chunks(labels, TRAIN)
    stored = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(SEED))
    times: dict[str, list[float]] = {}
    for turn in range(options.turns):
        found = one_turn(times, encoder, images, stream, ours_first=turn % 2 == 1)
        embeddings, network, peer, (mine, head) = found
        timed(times, "head, S-MNIST", lambda: head_trained(stored, labels, whole, BATCH))
        print(f"turn {turn + 1} of {options.turns}", flush=True)
    again = network.features(images.floats(torch.arange(len(images))))
    apart = float((again - embeddings).abs().max())
    heads_apart = float((network.head.weight - head.weight).detach().abs().max())
    encoded = network.encoded - len(images)
    summary = summed(times, len(images), encoded, settings(BATCH).epochs)
    path = turns.write(
        "continual",
        {
            "what": f"ViT-B/32, random weights, 224 px, {options.threads} threads, float32; "
            f"{len(images)} images a turn, {encoded} encoded by the peer; S-MNIST extrapolated",
            "seconds": {name: turns.spread(values) for name, values in times.items()},
            **summary,
            "bars": BARS,
            "greatest_difference_of_features": apart,
            "greatest_difference_of_trained_weights": heads_apart,
            "accuracy": {"ours": mine, "peer": peer},
        },
    )
    for name, bar in BARS.items():
        said = turns.said(summary[f"s_mnist_{name}_ratio"], "x")
        print(f"continual: bank {name} against encoding anew, S-MNIST: {said}, bar {bar:g}x")
    print(
        f"{path}; features {apart:.1e} apart, trained weights {heads_apart:.1e}, "
        f"accuracy {mine:.3f} and {peer:.3f}"
    )
    if max(apart, heads_apart) > 1e-5 or abs(mine - peer) > 0.001:
        raise SystemExit("continual: expected both ways to agree, they do not")


def one_turn(
    times: dict[str, list[float]],
    encoder: Encoder,
    images: Images,
    stream: Stream,
    *,
    ours_first: bool,
) -> tuple[Tensor, Encoding, float, tuple[float, nn.Linear]]:
    """Embeddings, the peer's network and accuracy, and ours; seconds are added to `times`."""
    with tempfile.TemporaryDirectory() as folder:

        def ours() -> Tensor:
            timed(times, "bank, empty", lambda: embedded(encoder, images, Path(folder)))
            return timed(times, "bank, filled", lambda: embedded(encoder, images, Path(folder)))

        embeddings = ours() if ours_first else None
        peer, network = timed(times, "avalanche", lambda: by_avalanche(encoder, images, stream))
        embeddings = ours() if embeddings is None else embeddings
    timed(times, "digest", lambda: network_digest(encoder.image))
    train = lambda: head_trained(embeddings, images.labels, stream, SLICE_BATCH)  # noqa: E731
    return embeddings, network, peer, timed(times, "head, slice", train)


def timed(times: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    """What `work` gives; its seconds are added to `times`."""
    found: list[Any] = []
    times.setdefault(name, []).append(turns.seconds(lambda: found.append(work())))
    return found[0]


def summed(
    times: dict[str, list[float]], images: int, encoded: int, epochs: int
) -> dict[str, dict[str, float]]:
    """Ratios of the slice as timed, and of S-MNIST from the cost of an image, turn by turn."""
    found: dict[str, list[float]] = {}
    passes = epochs * TRAIN + EXPERIENCES * TEST
    keys = ("bank, empty", "bank, filled", "avalanche", "digest", "head, slice", "head, S-MNIST")
    for empty, filled, peer, digest, head, full in zip(*(times[k] for k in keys), strict=True):
        # a full bank reads the slice faster than the digest of the network varies
        per_image = {"empty": (empty - digest) / images, "filled": max(filled - digest, 0) / images}
        for name, bank_seconds in (("empty", empty), ("filled", filled)):
            ours = digest + per_image[name] * (TRAIN + TEST) + full
            found.setdefault(f"slice_{name}_ratio", []).append(peer / (bank_seconds + head))
            found.setdefault(f"s_mnist_{name}_seconds", []).append(ours)
            found.setdefault(f"s_mnist_{name}_ratio", []).append(peer / encoded * passes / ours)
        found.setdefault("s_mnist_peer_seconds", []).append(peer / encoded * passes)
    return {name: turns.spread(values) for name, values in found.items()}


if __name__ == "__main__":
    main()
