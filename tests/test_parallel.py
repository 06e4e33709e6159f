from __future__ import annotations

import os
import signal
import time
from multiprocessing.context import ForkProcess

import pytest
import torch

from carryover.errors import KitError
from carryover.parallel import spread
from carryover.run import generator

pytestmark = pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")


def work(task: int) -> float:
    x = torch.randn(64, 64, generator=generator(task, "work"))
    return float((x @ x).sum())


def test_results_are_complete_and_do_not_depend_on_the_processes() -> None:
    tasks = list(range(7))
    here = dict(spread(work, tasks, 0))
    assert list(here) == tasks
    assert dict(spread(work, tasks, 1)) == here
    assert dict(spread(work, tasks, 2)) == here


def test_work_is_done_in_other_processes_on_one_thread() -> None:
    found = [
        result for _, result in spread(lambda _: (os.getpid(), torch.get_num_threads()), [1], 2)
    ]
    assert found[0][0] != os.getpid()
    assert found[0][1] == 1
    assert [pid for _, pid in spread(lambda _: os.getpid(), [1], 0)] == [os.getpid()]


def test_no_task_gives_no_result() -> None:
    assert list(spread(work, [], 2)) == []
    assert list(spread(work, [], 0)) == []


def test_more_processes_than_tasks_do_no_harm() -> None:
    assert dict(spread(work, [3], 4)) == {3: work(3)}


@pytest.mark.parametrize("processes", [0, 1, 2])
def test_what_the_user_must_mend_passes_through(processes: int) -> None:
    def refuse(task: int) -> int:
        if task == 1:
            raise KitError("cuts.lr: lower it")
        return task

    with pytest.raises(KitError, match=r"^cuts\.lr: lower it$"):
        list(spread(refuse, [0, 1, 2, 3], processes))


@pytest.mark.parametrize("heard", [True, False])
def test_an_interrupt_while_processes_start_is_not_lost_to_the_fork(
    monkeypatch: pytest.MonkeyPatch, heard: bool
) -> None:
    started, start = [], ForkProcess.start

    def interrupted(process: ForkProcess) -> None:
        signal.raise_signal(signal.SIGINT)
        start(process)
        started.append(process)

    monkeypatch.setattr(ForkProcess, "start", interrupted)
    handler = signal.default_int_handler if heard else signal.SIG_IGN
    before = signal.signal(signal.SIGINT, handler)
    try:
        if heard:
            with pytest.raises(KeyboardInterrupt):
                list(spread(work, [0, 1, 2], 2))
        else:
            assert len(list(spread(work, [0, 1, 2], 2))) == 3
        assert signal.getsignal(signal.SIGINT) == handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(started) == 2
    assert not any(process.is_alive() for process in started)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_worker_is_noticed(processes: int) -> None:
    def die(task: int) -> int:
        if task == 2:
            time.sleep(0.3)  # the results before this one are on their way
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    found: list[int] = []
    with pytest.raises(KitError) as caught:
        found.extend(task for task, _ in spread(die, [0, 1, 2, 3], processes))
    said = "training: expected every worker process to finish, one ended with code -9 (-9 is often"
    assert str(caught.value).startswith(said)
    assert "run again to go on where it stopped" in str(caught.value)
    assert {0, 1} <= set(found)


def test_workers_end_with_the_one_who_asked() -> None:
    results = spread(lambda _: os.getpid(), list(range(100)), 2)
    _, pid = next(results)
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
