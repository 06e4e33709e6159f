"""Processes that torchrun starts train what one process trains."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from carryover.adapt.averaging import copied
from carryover.config import params as config
from carryover.distributed import Ranks, joined
from carryover.errors import ConfigError
from carryover.rows import read_rows
from carryover.sequence_carried import Carried, Cell, Place
from carryover.sequence_start import load_start
from carryover.sequence_training import train_task
from carryover.stages import PARAMS, run_stage
from conftest import Checkout

TOGETHER = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SECONDS = 600  # a limit for a busy machine; it takes ten
CLOSE = 1e-4

SHORT = {
    "sequence.updates": 2,
    "sequence.lrs": {"full": [0.003], "lora": [0.01]},
    "sequence.curves.eval_methods": ["zscl"],
    "sequence.curves.eval_every": 0,
}
ITEMS = {
    "plain": ["finetune", "joint"],
    "distill": ["lwf", "zscl", "image-similarity"],
    "ogd": ["ogd"],
    "lora": ["zscl-lora-shared"],
}


def test_shares_cover_the_rows_in_order_and_are_equally_long() -> None:
    rows = torch.arange(10, 17)
    shares = [Ranks(rank, 3).mine(rows).tolist() for rank in range(3)]
    assert shares == [[10, 11, 12], [13, 14, 15], [16, 16, 16]]
    few = [Ranks(rank, 3).mine(rows[:1]).tolist() for rank in range(3)]
    assert few == [[10], [10], [10]]
    assert Ranks(1, 3).mine(rows[:0]).tolist() == []


def test_a_process_alone_gets_back_what_it_gives() -> None:
    alone = joined(torch.device("cpu"))
    x = torch.rand(5, 2, requires_grad=True)
    assert alone == Ranks(0, 1)
    assert alone.leads
    assert alone.mine(x) is x
    assert alone.gathered(x, 5) is x
    assert alone.told({"a": 1}) == {"a": 1}
    assert alone.leader_first(lambda: 3) == 3
    x.sum().backward()
    before = x.grad
    alone.average_([torch.nn.Parameter(x)])
    alone.align_([x])
    assert x.grad is before


def script(folder: Path, body: str) -> str:
    path = folder / "together.py"
    path.write_text(body)
    return str(path)


def together(checkout: Checkout, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOGETHER, *command],
        env=checkout.environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


GATHERED = """
import sys
import torch
from carryover.distributed import joined

ranks = joined(torch.device("cpu"))
assert ranks.count == 2
w = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
unused = torch.nn.Parameter(torch.ones(3))
x = torch.arange(10.0).view(5, 2) / 7
z = ranks.gathered(ranks.mine(x) @ w, 5)
assert torch.allclose(z.detach(), (x @ w).detach())
loss = (z @ z.T).softmax(dim=0).square().sum() + w.square().sum()
loss.backward()
ranks.average_([w, unused])
alone = w.detach().clone().requires_grad_()
z = x @ alone
((z @ z.T).softmax(dim=0).square().sum() + alone.square().sum()).backward()
assert torch.allclose(w.grad, alone.grad, atol=1e-6), (w.grad, alone.grad)
assert torch.equal(unused.grad, torch.zeros(3))
tensor = torch.full((2, 3), float(ranks.rank)).T
ranks.align_([tensor])
assert torch.equal(tensor, torch.zeros(3, 2))
assert ranks.told([1, "two"] if ranks.leads else None) == [1, "two"]
order = ranks.leader_first(lambda: ranks.rank)
assert order == ranks.rank
ranks.leave()
"""


@pytest.mark.slow
def test_gathered_rows_give_the_gradients_of_one_process(tiny: Checkout, tmp_path: Path) -> None:
    done = together(tiny, script(tmp_path, GATHERED))
    assert done.returncode == 0, done.stderr


def result(item: str) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """An item's numbers by name, and its predictions."""
    rows = read_rows(Path("reports/sequence/runs") / item / "rows.jsonl")
    numbers = {f"{row.metric} {json.dumps(row.cell, sort_keys=True)}": row.value for row in rows}
    assert len(numbers) == len(rows) > 20
    path = Path("data/predictions/sequence") / item / "predictions.parquet"
    return numbers, pq.read_table(path).to_pydict()


def compare(one: tuple[dict[str, float], Any], two: tuple[dict[str, float], Any]) -> None:
    """Equal up to rounding: a prediction may flip where two classes are as likely."""
    (numbers, told), (others, other) = one, two
    for column in ("label_probability", "prediction_probability"):
        assert other[column] == pytest.approx(told[column], abs=CLOSE)
    flips = sum(a != b for a, b in zip(told["prediction"], other["prediction"], strict=True))
    assert flips <= 2
    assert numbers.keys() == others.keys()
    assert others == pytest.approx(numbers, abs=CLOSE + flips / 36)  # the smaller test set


ALL = """
import sys
import torch
from carryover import distributed
from carryover.stages import run_stage
from carryover.studies import sequence

ranks = distributed.joined(torch.device("cpu"))
sequence.joined = lambda device: ranks
distributed.Ranks.leave = lambda self: None  # one start for all stages saves its seconds
for item in sys.argv[1:]:
    run_stage("sequence", item)
"""


@pytest.mark.slow
def test_two_processes_have_the_rows_of_one(embedded: Checkout, tmp_path: Path) -> None:
    embedded.edit(**SHORT, **{f"sequence.methods.{k}": v for k, v in ITEMS.items()})
    found = {}
    for item in ITEMS:
        run_stage("sequence", item)
        found[item] = result(item)
    done = together(embedded, script(tmp_path, ALL), *ITEMS)
    assert done.returncode == 0, done.stderr
    for item, (numbers, predictions) in found.items():
        again = result(item)
        assert again[1]["prediction_probability"] != predictions["prediction_probability"]
        compare((numbers, predictions), again)


KILLED = """
import os
from carryover import sequence_training, train
from carryover.stages import run_stage

train.SNAPSHOT_SECONDS = 0.0
fit = sequence_training.fit
tasks = []

def dies(*given, **named):
    tasks.append(1)
    step = named["after_step"]

    def after_step(done):
        step(done)
        if os.environ["RANK"] == "1" and len(tasks) == 2 and done == 5:
            os._exit(9)

    return fit(*given, **named | {"after_step": after_step})

sequence_training.fit = dies
run_stage("sequence", "distill")
"""


@pytest.mark.slow
def test_when_one_dies_all_end_and_the_next_run_goes_on(embedded: Checkout, tmp_path: Path) -> None:
    longer = {"sequence.updates": 6, "sequence.batch_size": 40, "sequence.accumulate": 2}
    embedded.edit(**SHORT | longer | {"sequence.methods.distill": ["zscl"]})
    run_stage("sequence", "distill")
    whole = result("distill")
    path = Path("reports/sequence/runs/distill/rows.jsonl")
    path.unlink()
    done = together(embedded, script(tmp_path, KILLED))
    assert done.returncode != 0
    assert not path.exists()
    states = sorted(each.name for each in Path(".scratch").rglob("zscl@1@0*.pt"))
    assert states == ["zscl@1@0.2.pt", "zscl@1@0.pt"]
    done = together(embedded, "-m", "carryover", "run", "sequence", "--item", "distill")
    assert done.returncode == 0, done.stderr
    compare(whole, result("distill"))
    assert not list(Path(".scratch").rglob("zscl@1@0*.pt"))


def test_dropout_of_adapters_is_refused_in_a_sentence(embedded: Checkout) -> None:
    embedded.edit(**{"sequence.lora.dropout": 0.1})
    params = config.read(PARAMS)
    start = load_start(params, torch.device("cpu"), reference=False)
    task, cell = start.tasks["digits"], Cell("finetune-lora", "1", 0)
    place = Place(cell, 1, task, task.train, False)
    network = start.encoder.model
    with pytest.raises(ConfigError, match=r"dropout: expected 0 where 2 processes .*, got 0\.1; "):
        train_task(
            params,
            replace(start, ranks=Ranks(0, 2)),
            network,
            place,
            0.1,
            Carried(copied(network.state_dict())),
        )
