"""Timing two ways of doing one thing in turns, so that a busy machine slows both."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

REPORTS = Path("reports/bench")


def parser(doc: str | None, root: str) -> argparse.ArgumentParser:
    """The options that all benchmarks have: ``--root`` and ``--turns``.

    Args:
        doc: the benchmark's docstring, of which the first line is shown.
        root: help for ``--root``, which `make bench` hands to each.
    """
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--root", default="", help=root)
    made.add_argument("--turns", type=int, default=5)
    return made


def options(doc: str | None) -> argparse.Namespace:
    """Those of a benchmark that makes its own inputs, with ``--threads``, which torch is set to."""
    made = parser(doc, "not used: the inputs are made here")
    made.add_argument("--threads", type=int, default=1)
    found = made.parse_args()
    torch.set_num_threads(found.threads)
    return found


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest of what the turns gave."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "greatest": max(values),
        "turns": len(values),
    }


def said(found: Mapping[str, float], unit: str, digits: int = 3) -> str:
    """``12.3 s (11.8 to 13.0)``."""
    middle, least, greatest = (f"{found[k]:.{digits}g}" for k in ("median", "least", "greatest"))
    return f"{middle} {unit} ({least} to {greatest})"


def write(name: str, found: dict[str, Any]) -> Path:
    """Write ``reports/bench/NAME.json`` with the hardware it was measured on."""
    machine = {
        "processor": processor(),
        "bfloat16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags()],
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    path = REPORTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, **found}, indent=2) + "\n")
    return path


def processor() -> str:
    """The name of this machine's processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def flags() -> set[str]:
    """What this machine's processor can, as Linux names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}


def in_child(work: Callable[[], Any], threads: int) -> Any:
    """What `work` gives in a forked process of its own, on so many threads."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(threads)
        there.send(work())

    process = context.Process(target=run)
    process.start()
    there.close()
    found = here.recv()
    process.join()
    return found
