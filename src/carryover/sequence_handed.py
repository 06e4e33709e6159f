"""What a task of the sequence study hands on to the next, and what of it is tested."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from torch import nn

from carryover.adapt import averaging
from carryover.adapt.averaging import Weights, copied
from carryover.adapt.lora import merge_
from carryover.config.sequence import Sequence
from carryover.sequence_carried import Carried, Place
from carryover.sequence_heads import Heads, apart, taken_, zero_shot_head
from carryover.sequence_methods import Method
from carryover.sequence_seams import Average
from carryover.sequence_start import Start


class Tested(NamedTuple):
    """What test images are shown to."""

    weights: Weights
    heads: Heads


def finished(
    study: Sequence,
    start: Start,
    network: nn.Module,
    place: Place,
    method: Method,
    carried: Carried,
    average: Average,
    *,
    on_the_way: bool = False,
) -> tuple[Carried, Tested]:
    """What would be handed on if training ended now, and what would be tested.

    Args:
        network: the student or a copy of it; it ends with the weights that are handed on.
        on_the_way: the set is still training, where the original tested the student
            (`eval_student`); after it the original tested what it had handed on.
    """
    of_student = on_the_way and study.faults_of_original.eval_student
    student = average.student_weights(network) if of_student else {}
    average.hand_over_(network)
    if method.adapters:
        merge_(network)
    name, own = place.task.name, taken_(network)
    first = copied(zero_shot_head(start, place.task).state_dict()) if own else {}
    weights = copied(network.state_dict())
    if method.averaging == "merge":
        task = study.average.merge_anchor == "task"
        anchor = carried.weights if task else start.encoder.model.state_dict()
        weights = averaging.mixed(anchor, weights, study.average.merge_mix)
        own = averaging.mixed(first, own, study.average.merge_mix)
        network.load_state_dict(weights)
    mean = carried.mean
    if method.averaging == "task-mean":
        mean = averaging.mixed(mean or weights, weights, 1 / place.number)
    heads = carried.heads | ({name: own} if own else {})
    carried = replace(carried, weights=weights, mean=mean, heads=heads)
    if student:
        rest, own = apart(student)
        return carried, Tested(rest, heads | ({name: own} if own else {}))
    return carried, tested_of(study, start, method, carried)


def tested_of(study: Sequence, start: Start, method: Method, carried: Carried) -> Tested:
    """What the test images are shown to."""
    if method.averaging == "task-mean":
        return Tested(carried.mean, carried.heads)
    if method.averaging == "at-test":
        mix = study.average.test_mix
        return tuned_share(start, Tested(carried.weights, carried.heads), mix)
    return Tested(carried.weights, carried.heads)


def tuned_share(start: Start, tuned: Tested, mix: float) -> Tested:
    """Weights and heads mixed with the start's, `mix` of them tuned."""
    heads = {
        name: averaging.mixed(zero_shot_head(start, start.tasks[name]).state_dict(), head, mix)
        for name, head in tuned.heads.items()
    }
    zero_shot = start.encoder.model.state_dict()
    return Tested(averaging.mixed(zero_shot, tuned.weights, mix), heads)
