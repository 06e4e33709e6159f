"""What the cut study published: figures of its claims, as facts.

Source: ``tusharmanekar/mp-tl-study`` at 8c95619. Figures are means over repeats, recomputed from
``<dataset>/results/*_regular_classes*.json``; significant cells are those marked in the printed
tables of its visualisation notebooks. Margins are ours.
"""

from __future__ import annotations

PAIRS = (
    *("mnist", "fashion-mnist", "cifar10"),
    *("mnist-to-fashion-mnist", "fashion-mnist-to-mnist"),
)
FRACTIONS = (0.001, 0.01, 0.1, 0.5, 1.0)
_TEN = (0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0)
FRACTIONS_OF = {  # at which all cuts of FR were released
    **dict.fromkeys(PAIRS, FRACTIONS),
    "mnist-seed-era": tuple(f for f in _TEN if f != 0.05),  # cut 0 is missing there
    "fashion-mnist-seed-era": _TEN,
}
CUTS = {  # of FR; two of the seed era's pairs beside the final state's
    **{pair: tuple(range(7)) for pair in PAIRS},
    "mnist-seed-era": tuple(range(4)),
    "fashion-mnist-seed-era": tuple(range(6)),
}

BEST_CUTS = {  # FR, at FRACTIONS
    "mnist": (4, 4, 4, 3, 1),
    "fashion-mnist": (4, 4, 4, 4, 3),
    "cifar10": (4, 4, 4, 2, 1),
    "mnist-to-fashion-mnist": (5, 5, 5, 3, 1),
    "fashion-mnist-to-mnist": (5, 5, 2, 1, 1),
}
GAINS = {  # best FR cut minus baseline
    "mnist": {0.001: 0.161, 0.01: 0.120, 1.0: 0.0010},
    "fashion-mnist": {0.001: 0.067, 0.01: 0.070, 1.0: 0.0129},
    "cifar10": {0.001: 0.071, 0.01: 0.145, 1.0: 0.0161},
    "mnist-to-fashion-mnist": {0.001: 0.034, 0.01: 0.080, 1.0: 0.0049},
    "fashion-mnist-to-mnist": {0.001: 0.117, 0.01: 0.129, 1.0: 0.0004},
}
ALL_FROZEN = {  # cut 6 minus baseline
    "mnist": {1.0: -0.021},
    "fashion-mnist": {0.5: 0.049, 1.0: -0.017},
    "cifar10": {1.0: -0.151},
    "mnist-to-fashion-mnist": {1.0: -0.040},
    "fashion-mnist-to-mnist": {1.0: -0.044},
}
ALL_FROZEN_EXCEPTION = ("fashion-mnist", 0.5)
TRUNCATED = {"fashion-mnist": (0.9599, 0.9603)}  # best FT and best FR at 100 %
HIGHER: dict[
    str, dict[str, dict[float, tuple[int, ...]]]
] = {  # cuts marked as significant: of T6 on CIFAR-10, of T7 on FashionMNIST
    "T6": {
        "FT": {0.001: (2, 3, 6), 0.01: (0, 1, 2, 3, 4, 6), 0.1: (1, 2, 5, 6)},
        "FR": {0.001: (5,), 0.1: (0,)},
    },
    "T7": {
        "F": {0.01: (0, 1, 2), 0.1: (0, 1)},
        "FR": {0.001: (4,), 0.01: (4, 5), 0.1: (4, 5)},
    },
}

A_LOT = 0.02  # T2: the least gain that is worth the name; the smallest published one is 0.034
SMALL = 0.02  # T3: the largest gain that still counts as small; the largest published one is 0.0161
USABLE = 0.01  # T5: what FT may lose against FR
ALPHA = 0.05  # of every test of the original

# (channels, flattened features before the linear layer when cut at 0..6, target classes)
_FLAT_28 = (784, 50176, 12544, 12544, 3136, 3136, 576)
_FLAT_32 = (3072, 65536, 16384, 16384, 4096, 4096, 1024)
NETWORKS = {
    "mnist": (1, _FLAT_28, 5),
    "fashion-mnist": (1, _FLAT_28, 3),
    "cifar10": (3, _FLAT_32, 6),
    "mnist-to-fashion-mnist": (1, _FLAT_28, 10),
    "fashion-mnist-to-mnist": (1, _FLAT_28, 10),
}


def weights(pair: str, cut: int) -> int:
    """Parameters of the published network truncated behind convolution `cut`; 6: all of it.

    Six convolutions of 64 channels, 3 px, with bias, then one linear layer.
    """
    channels, flat, classes = NETWORKS[pair]
    convolutions = [9 * 64 * (channels if i == 0 else 64) + 64 for i in range(cut)]
    return sum(convolutions) + (flat[cut] + 1) * classes


def marked(claim: str) -> str:
    """Cells that the original marked: ``F higher at 1 % cuts 0, 1, 2 and FR higher at ...``."""
    return " and ".join(
        f"{setting} higher at "
        + "; ".join(f"{100 * f:g} % cuts {', '.join(map(str, cuts))}" for f, cuts in at.items())
        for setting, at in HIGHER[claim].items()
    )
