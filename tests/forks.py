"""Runs the command line in forks of one process that has imported everything: each starts at once.

Reads a job a line, as JSON: ``{"arguments", "folder", "environment", "out", "fsize", "bound"}`` and
answers with the number of the process, or ``{"wait": number}`` and answers with its exit code,
minus the signal for one that was killed. Standard output and error go to ``out`` and ``out.err``.
A job that is ``bound`` is held to the permissions of files, also as root.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import sys
from typing import Any

MODULES = (
    *(f"carryover.studies.{name}" for name in ("adapt", "clusters", "continual", "cuts")),
    *("carryover.studies.sequence", "carryover.studies.retrieval", "carryover.pretrain.recipes"),
    *("carryover.embed", "carryover.prepare", "carryover.overview", "carryover.launch"),
    *("avalanche.training.supervised", "safetensors.torch", "pyarrow.parquet", "open_clip"),
    *("sklearn.datasets", "ruamel.yaml", "rich.progress", "dvc.repo"),
)


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    said: dict[int, list[tuple[int, str]]] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            for pipe, name in said.pop(job["wait"]):
                with open(name, "wb") as file, contextlib.suppress(BlockingIOError):
                    file.write(os.read(pipe, 2**16))
                os.close(pipe)
            print(os.waitstatus_to_exitcode(status), flush=True)
        else:
            print(started(job, said), flush=True)


def started(job: dict[str, Any], said: dict[int, list[tuple[int, str]]]) -> int:
    """Fork; what the child says goes into pipes, which no limit of file sizes cuts short."""
    pipes = [os.pipe(), os.pipe()]
    number = os.fork()
    if number:
        for reading, writing in pipes:
            os.close(writing)
            os.set_blocking(reading, False)
        said[number] = [(pipes[0][0], job["out"]), (pipes[1][0], f"{job['out']}.err")]
        return number
    os.setsid()
    for place, (_, writing) in enumerate(pipes, 1):
        os.dup2(writing, place)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    if job["fsize"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["fsize"], job["fsize"]))
    if job["bound"] and os.getuid() == 0:
        heed_permissions()
    sys.argv = ["carryover", *job["arguments"]]
    code = 3
    try:
        from carryover import cli

        cli.main()
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def heed_permissions() -> None:
    """Give up root's right to read and write whatever modes say, for this process and what it runs.

    Source: capabilities(7), prctl(2).
    """
    rights = (1, 2, 3)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 rights
    asked = [libc.prctl(24, right, 0, 0, 0) for right in rights]  # from the bounding set
    asked.append(libc.capget(header, held))
    for i in range(3):
        held[i] &= ~sum(1 << right for right in rights)
    asked.append(libc.capset(header, held))
    if any(asked):
        raise OSError(ctypes.get_errno(), "cannot give up rights")


if __name__ == "__main__":
    main()
