"""Independent trainings: those of this process, spread over the cores of one machine."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from carryover.errors import KitError
from carryover.scratch import Scratch
from carryover.shares import Share, share

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h

T = TypeVar("T")
R = TypeVar("R")


@runtime_checkable
class Named(Protocol):
    """A cell: its name tells it from all others of its stage."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


class Elsewhere(Exception):
    """What is left of a stage is not this process's to do: `missing` cells, or the rows."""

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} cells are missing")
        self.missing = missing


def own(cells: Sequence[T], together: Callable[[T], Hashable] | None = None) -> list[T]:
    """The cells that this process computes: all, or its share when it works for a launch.

    Args:
        cells: every cell, finished or not, so that all processes count alike.
        together: cells of which this is equal stay in one share.
    """
    mine = share()
    return list(cells) if mine is None else part(cells, mine, together)


def part(
    cells: Sequence[T], share: Share, together: Callable[[T], Hashable] | None = None
) -> list[T]:
    """The cells of a share, dealt out one after the other in the order given; see `own`."""
    if not share.count:
        return []
    groups: dict[Hashable, list[T]] = {}
    for cell in cells:
        groups.setdefault(together(cell) if together else cell, []).append(cell)
    dealt = list(groups.values())[share.index :: share.count]
    return [cell for group in dealt for cell in group]


def end_round(missing: int, last: bool = True) -> None:
    """Where all cells of a round are needed: a process that computes a share ends its stage here.

    Args:
        missing: cells of the round that are not finished, or were not when this process began.
        last: whether rows follow, and no other round.
    Raises:
        Elsewhere: cells are missing, or the rows are not this process's to write.
    """
    mine = share()
    if mine and (missing or (last and mine.count)):
        raise Elsewhere(missing)


def compute(
    cells: Sequence[N],
    work: Callable[[N], R],
    scratch: Scratch,
    processes: int,
    advance: Callable[[], None],
    together: Callable[[N], Hashable] | None = None,
    last: bool = True,
    whole: Callable[[N], bool] = lambda cell: True,
) -> dict[str, R]:
    """What `work` gives for each cell, by the cell's name: found in `scratch`, or computed now.

    Args:
        scratch: where each finished cell is kept at once.
        processes: see `spread`.
        advance: called once a cell.
        together, last: see `own` and `end_round`.
        whole: whether the files that a finished cell made are there still; else it is computed
            again.
    """
    found = scratch.cells()
    done = {cell.name: found[cell.name] for cell in cells if cell.name in found and whole(cell)}
    left = [cell for cell in own(cells, together) if cell.name not in done]
    for _ in range(len(cells) - len(left)):
        advance()
    for cell, value in spread(work, left, processes):
        scratch.add(cell.name, value)
        done[cell.name] = value
        advance()
    end_round(sum(cell.name not in done for cell in cells), last)
    return done


def spread(work: Callable[[T], R], tasks: Sequence[T], processes: int) -> Iterator[tuple[T, R]]:
    """Results of ``work(task)`` as they finish, in no order, each computed on one thread.

    With 0 processes (a GPU) the work is done here, one task after the other.

    One thread a process makes small networks fastest, and makes results independent of the number
    of cores. Processes are forked, so `work` may be a closure over loaded tensors; the caller must
    not have used torch on several threads or on a GPU before.

    Raises:
        KitError: what `work` raised as such, or a process ended without a result.
    """
    if not processes:
        yield from ((task, work(task)) for task in tasks)
        return
    context = multiprocessing.get_context("fork")
    index = context.Value("i", 0)
    results: Any = context.Queue()
    parent = os.getpid()

    def loop() -> None:
        import torch

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and ends them
        end_with_parent()
        torch.set_num_threads(1)
        keep_freed_memory()
        while os.getppid() == parent:
            with index.get_lock():
                i, index.value = index.value, index.value + 1
            if i >= len(tasks):
                return
            try:
                results.put((i, work(tasks[i]), None))
            except KitError as error:
                results.put((i, None, error))
                return
            except Exception:
                results.put((i, None, RuntimeError(traceback.format_exc())))
                return

    running = [context.Process(target=loop, daemon=True) for _ in range(min(processes, len(tasks)))]
    try:
        with _interrupted_afterwards():
            for process in running:
                process.start()
        for _ in tasks:
            i, result, error = _next(results, running)
            if error is not None:
                raise error
            yield tasks[i], result
    finally:
        for process in (each for each in running if each.pid):
            process.terminate()
            process.join()


@contextlib.contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """Hold an interrupt until the block is done: Python loses one that comes while it forks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if caught and callable(previous):
        previous(signal.SIGINT, None)


def end_with_parent() -> None:
    """Let the system end this process when its parent ends, however it does (Linux only).

    A worker whose parent was killed would go on with its training and hold the stage's lock, which
    it shares with the parent, so that the stage could not be run again meanwhile.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def keep_freed_memory() -> None:
    """Let this process keep memory it frees (glibc only; elsewhere nothing happens).

    Small networks free and take the same few megabytes at every layer. By default glibc hands
    blocks of that size back to the system each time, and getting them again costs more than the
    arithmetic: training the small CNN on 32 px images takes a third longer.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        mallopt(parameter, 2**30)


def _next(results: Any, running: list[Any]) -> Any:
    """The next result; notices processes that died instead of waiting for them for ever."""
    while True:
        dead = [process for process in running if process.exitcode not in (None, 0)]
        idle = all(process.exitcode is not None for process in running)
        try:
            return results.get(timeout=0.5)
        except queue.Empty:
            if dead or idle:
                code = dead[0].exitcode if dead else 0
                raise KitError(
                    f"training: expected every worker process to finish, one ended with code "
                    f"{code} (-9 is often too little memory); run again to go on where it "
                    "stopped, with fewer of them by CARRYOVER_WORKERS=1"
                ) from None
