"""AlexNet (Krizhevsky 2014): the form for 32-pixel images and torchvision's for larger ones.

The reference plans an AlexNet and has none, so the small one is the form that is best known: five
convolutions and a single linear layer, as in ``models/cifar/alexnet.py`` of
github.com/bearpaw/pytorch-classification (W. Yang): 11, 5 and three times 3 pixels wide, the first
with stride 4 and padding 5, pools of 2. Torchvision's has pools of 3 with stride 2, padding 2 at
the start, and three linear layers with dropout; its parameters have torchvision's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from carryover.errors import ConfigError, pick
from carryover.models.retrieval_stage import expect_rows

Form = Literal["cifar", "torchvision"]

WIDTHS = (1, 3, 6, 4, 4)  # channels of the convolutions, by those of the first
KERNELS = (11, 5, 3, 3, 3)
POOLED = (0, 1, 4)  # convolutions with a pool behind them
HIDDEN = 64  # width of torchvision's linear layers by that of the first convolution


@dataclass(frozen=True)
class Shape:
    """What the forms differ in.

    Args:
        padding: of the first convolution.
        pool: size of the pools, all of stride 2.
        grid: height and width that the last map is averaged to.
        least: the smallest image of which pixels are left.
        hidden: whether there are two linear layers before the last.
    """

    padding: int
    pool: int
    grid: int
    least: int
    hidden: bool


def map_width(width: int) -> int:
    """Channels of the map at the retrieval stage."""
    return width * WIDTHS[-1]


class AlexNet(nn.Module):
    """Five convolutions, pooling, one or three linear layers.

    Args:
        width: channels of the first convolution.
        classes: logits; None: no last layer.
        channels, size: of the images.
        form: "cifar" or "torchvision".
        attend: one retrieval stage or none, which takes the last convolution's map before it is
            pooled, and the retrieved entries. Of a 32-pixel image this map has four positions.
    Raises:
        ConfigError: no pixel of such an image would be left.
    """

    def __init__(
        self,
        width: int = 64,
        classes: int | None = 10,
        channels: int = 3,
        size: int = 32,
        form: Form = "cifar",
        attend: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        shape = pick(FORMS, form, "alexnet.form")
        if size < shape.least:
            raise ConfigError(
                f"alexnet: expected images of at least {shape.least} pixels for the form {form}, "
                f"got {size}; enlarge the images"
            )
        self.features = nn.Sequential()
        inputs = channels
        for i, (times, kernel) in enumerate(zip(WIDTHS, KERNELS, strict=True)):
            stride, padding = (1, kernel // 2) if i else (4, shape.padding)
            convolution = nn.Conv2d(inputs, width * times, kernel, stride, padding)
            self.features.extend([convolution, nn.ReLU()])
            if i in POOLED:
                self.features.append(nn.MaxPool2d(shape.pool, 2))
            inputs = width * times
        self.pool = nn.AdaptiveAvgPool2d(shape.grid)
        self.classifier = nn.Sequential()
        inputs *= shape.grid**2
        for _ in range(2 if shape.hidden else 0):
            self.classifier.extend([nn.Dropout(), nn.Linear(inputs, HIDDEN * width), nn.ReLU()])
            inputs = HIDDEN * width
        self.width = inputs  # of what goes into the last layer
        self.classifier.append(nn.Identity() if classes is None else nn.Linear(inputs, classes))
        self.attend = nn.ModuleList(attend)

    def embed(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b d"]:
        """What goes into the last layer.

        Raises:
            DataError: entries without a retrieval stage, or a stage without entries.
        """
        return self.classifier[:-1](self._pooled(x, rows))

    def _pooled(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None
    ) -> Float[Tensor, "b f"]:
        expect_rows(self.attend, rows)
        if not len(self.attend):
            return self.pool(self.features(x)).flatten(1)
        x = self.features[:-1](x)
        for stage in self.attend:
            x = stage(x, rows)
        return self.pool(self.features[-1](x)).flatten(1)

    def forward(
        self, x: Float[Tensor, "b ch h w"], rows: Float[Tensor, "b k r"] | None = None
    ) -> Float[Tensor, "b d"]:
        return self.classifier(self._pooled(x, rows))


FORMS: dict[str, Shape] = {
    "cifar": Shape(padding=5, pool=2, grid=1, least=29, hidden=False),
    "torchvision": Shape(padding=2, pool=3, grid=6, least=63, hidden=True),
}
