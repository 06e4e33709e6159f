"""What the cut study's report says about its protocol holds under any parameters."""

from __future__ import annotations

import dataclasses
from typing import Any

from carryover.config import params as config
from carryover.studies import cuts_report
from cluster_rows import cut_rows
from conftest import TINY

PUBLISHED = {"max_updates": 0, "epochs": 40, "batch_size": 64, "patience": 6}


def read_as(**changes: Any) -> str:
    """How the tables of handmade rows are to be read, some keys of the study changed."""
    study = dataclasses.replace(config.read(TINY).cuts, **changes)
    images = {("train", 0.05): 10, ("train", 1.0): 200}
    rows = [
        dataclasses.replace(row, n=images.get((row.split, row.cell["fraction"]), row.n))
        for row in cut_rows()
    ]
    return cuts_report.reading(study, 100, rows)


def test_epochs_alone_are_not_called_one_budget() -> None:
    told = read_as(**PUBLISHED)
    assert "same budget" not in told
    assert (
        "has at most 40 epochs of batches of 64, less after 6 validations in a row without a "
        "better one. Equal epochs are not equal updates: at most 40 with the fewest images and 160 "
        "with the most, so" in told  # of 10 and 200 images
    )
    assert "same budget: at most 40 updates on batches of 16. Square" in read_as()
    whole = read_as(**PUBLISHED | {"batch_size": 4096, "patience": 0})
    assert "same budget: at most 40 epochs of batches of 4096, that is 40 updates." in whole


def test_the_text_says_which_weights_a_training_ends_with() -> None:
    assert "; 20 validation images also choose each training's weights." in read_as()
    told = read_as(restore_best="on_stop", **PUBLISHED)
    assert "; 20 validation images also choose the weights of a training that patience" in told
    assert "stopped; one that ran to its end keeps its last." in told
    told = read_as(restore_best="on_stop", patience=0)
    assert "(n = 20); each training keeps its last weights." in told


def test_no_test_images_are_named_where_training_images_are_tested_on() -> None:
    told = read_as(test_on="train", best_by="test")
    assert "on 100 TRAINING images" in told
    assert "highest mean accuracy on these TRAINING images; " in told
    assert "test images" not in told
    assert "test images and the one source network stay the same" in read_as()
