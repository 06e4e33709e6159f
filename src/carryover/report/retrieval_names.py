"""Names of the retrieval study's arms, their order, and how each looks in a figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from carryover.report.figures import GREY
from carryover.report.retrieval_scores import (
    ACCESS,
    NEAREST,
    PLAIN,
    RANDOM,
    Arm,
    memory_size,
)

CONTROLS = {  # by control: the access at which it is at home, and its name
    "none": (PLAIN, "plain"),
    "parameters": (PLAIN, "as many parameters added"),
    "more-images": (PLAIN, "memory as training images"),
    "corpus": (PLAIN, "pretrained by BYOL"),
    "simclr": (PLAIN, "pretrained by SimCLR"),
    "probe": (PLAIN, "probe of the features"),
    "vote": (NEAREST, "vote of the neighbours"),
    "labels": (NEAREST, "labels in the entries"),
    "labels-as-keys": (NEAREST, "labels as keys"),
    "labels-as-values": (NEAREST, "labels as values"),
    "clean-query": (NEAREST, "query without noise"),
    "itself": (NEAREST, "finds itself in training"),
    "leave-one-out": (NEAREST, "memory of training images"),
    "zeros": (NEAREST, "memory of zeros"),
    "shuffled": (NEAREST, "shuffled memory"),
    "single": (NEAREST, "one entry for all"),
    "other-memory": (NEAREST, "memory of another set"),
    "reshaped": (NEAREST, "scrambled positions"),
    "entry-0": (RANDOM, "entry 0 alone"),
}
UNTRAINED = ("vote", "probe")  # no network of the study is trained

LINES = {  # of arms without a control, by access
    PLAIN: {"color": "black", "marker": "o", "linestyle": "-"},
    NEAREST: {"color": "#0072b2", "marker": "s", "linestyle": "-"},
    RANDOM: {"color": "#d55e00", "marker": "^", "linestyle": "--"},
}
LOOKS: dict[str, dict[str, Any]] = {  # of controls
    "parameters": {"color": GREY, "marker": "D", "linestyle": "--"},
    "corpus": {"color": "#009e73", "marker": "v", "linestyle": "-."},
    "simclr": {"color": "#8c6d31", "marker": "<", "linestyle": "-."},
    "probe": {"color": GREY, "marker": "P", "linestyle": (0, (1, 1))},
    "vote": {"color": "#56b4e9", "marker": "X", "linestyle": ":"},
    "labels": {"color": "#332288", "marker": ">", "linestyle": "-"},
    "clean-query": {"color": "#56b4e9", "marker": "D", "linestyle": "--"},
    "zeros": {"color": "#cc79a7", "marker": "v", "linestyle": ":"},
    "shuffled": {"color": "#e69f00", "marker": "<", "linestyle": ":"},
    "reshaped": {"color": "#cc79a7", "marker": "X", "linestyle": "--"},
    "entry-0": {"color": "#cc79a7", "marker": "^", "linestyle": ":"},
}
OTHER: dict[str, Any] = {"color": GREY, "marker": "*", "linestyle": "-."}


def base(arm: Arm) -> str:
    """What is retrieved: ``plain``, ``nearest 10``, ``random 10``."""
    k = "" if arm.k is None else f" {arm.k}"
    return {PLAIN: "plain", NEAREST: f"nearest{k}", RANDOM: f"random{k}"}[arm.access]


def name(arm: Arm, crowd: Sequence[Arm] = ()) -> str:
    """An arm's name; with what it retrieves where others in the crowd are named the same.

    Args:
        crowd: arms that are shown together.
    """
    if arm.control == "none":
        return base(arm)
    if arm.control == "vote" and arm.k is not None:
        return f"vote of the nearest {arm.k}"
    size = memory_size(arm)
    home, said = CONTROLS.get(arm.control, (NEAREST, arm.control))
    said = said if size is None else f"memory of {size} a class"
    alike = Counter((other.item, other.dataset, other.control) for other in crowd)
    if arm.access != home or alike[arm.item, arm.dataset, arm.control] > 1:
        return f"{said} ({base(arm)})"
    return said


def ordered(found: Sequence[Arm]) -> list[Arm]:
    """Arms as they stand below each other: by access, the ones without a control first."""
    known = list(CONTROLS)

    def place(arm: Arm) -> tuple[Any, ...]:
        control = known.index(arm.control) if arm.control in known else len(known)
        home = CONTROLS.get(arm.control, (NEAREST, ""))[0] if arm.control == "vote" else arm.access
        return (
            *(arm.item, arm.dataset, ACCESS.index(home), control, memory_size(arm) or 0),
            *(arm.control, arm.k or 0),
        )

    return sorted(found, key=place)


def look(arm: Arm) -> dict[str, Any]:
    """Colour, marker and line of an arm."""
    if arm.control == "none":
        return LINES[arm.access]
    return LOOKS.get(arm.control, OTHER)
