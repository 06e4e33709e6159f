"""The original's loop of the cut study, re-created for ``cuts.py`` to be timed against.

As its notes describe it: a data set that opens, transforms and label-encodes an image at a time, a
DataLoader, the whole network forward at every cut.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.preprocessing import LabelEncoder
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Digits(Dataset[Any]):
    """Images as the original serves them: one at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> None:
        self.images, self.labels = images, labels
        self.encoder = LabelEncoder().fit(list(classes))
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        label = self.encoder.transform([self.labels[i]])[0]
        return self.transform(Image.fromarray(self.images[i])), int(label)


def peer(network: nn.Module, parts: dict[str, Digits], epochs: int) -> list[float]:
    """The original's loop; validation accuracies and, at the end, the best weights' on test."""
    loaders = {k: DataLoader(v, batch_size=4096, shuffle=k == "train") for k, v in parts.items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=0.001)

    def accuracy(split: str) -> float:
        network.eval()
        right = 0
        with torch.no_grad():
            for x, y in loaders[split]:
                right += int((network(x).argmax(1) == y).sum())
        return right / len(parts[split])

    found, best = [0.0], network.state_dict()
    for _ in range(epochs):
        network.train()
        for x, y in loaders["train"]:
            optimiser.zero_grad()
            nn.functional.nll_loss(torch.log_softmax(network(x), 1), y).backward()
            optimiser.step()
        score = accuracy("validation")
        if score > max(found):
            best = copy.deepcopy(network.state_dict())
        found.append(score)
    network.load_state_dict(best)
    return [*found[1:], accuracy("test")]
