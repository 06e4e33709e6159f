"""The sequence study's entry on the page: question, figures, faults of the original."""

from __future__ import annotations

from carryover.report.page_study import Fault, Shown, Study

SEQUENCE = Study(
    "Sequence",
    "How can CLIP be tuned on one set after another and keep old sets and zero-shot transfer?",
    "JuicedCooky/thesis, from Thunderbeee/ZSCL",
    {
        "matrix": Shown(
            "Heat maps: accuracy on each set after each was trained, one map a method",
            "Accuracy on each set (columns) after each was trained (rows), mean over seeds; the "
            "first row is zero-shot. Right of the white line a set is not trained yet: what "
            "darkens there is transfer lost, what darkens left of it is forgotten.",
        ),
        "tasks": Shown(
            "Line plots: mean accuracy over sets by sets trained, one line a method",
            "Mean accuracy over all tested sets, those trained so far and the others; bars are "
            "95 % intervals. Hollow: what was released, where sets and order are the same.",
        ),
        "transfer-last": Shown(
            "Scatter plots: transfer against last accuracy, one point a method",
            "What is kept of zero-shot (right) against what is known at the end (top), with "
            "intervals in both directions; the released matrices are panels of their own.",
        ),
        "backward": Shown(
            "Dot plots: backward transfer by method, with and without the last set",
            "How much accuracy changes from right after a set's training to the end. The last "
            "set adds a 0 to a mean; the published averages have it in.",
        ),
        "mixing": Shown(
            "Line plots: accuracy by share of the tuned weights",
            "Accuracy on trained and other sets when tuned weights are mixed with the start's.",
        ),
        "steps": Shown(
            "Line plots: accuracy on each set over updates, one line a method",
            "Accuracy on each set over the updates of all sets; grey while it trains itself.",
        ),
        "tsne": Shown(
            "Scatter plots: maps of test images' embeddings, one map a method",
            "Where test images lie before any set and after all, a colour a set; each map is "
            "made by itself, so that axes cannot be compared.",
        ),
    },
    (
        Fault(
            "second task",
            "by the instructions it resumes a finished run: one step at learning rate 0",
            "starts from the last weights with a new count",
        ),
        Fault(
            "orthogonal gradients",
            "a stored gradient is projected and applied again between samples",
            "each step's own update is projected",
        ),
        Fault(
            "shared adapters",
            "the script leaves the adapters out: everything is tuned",
            "adapters alone, their number of weights checked",
        ),
        Fault("settings chosen on", "test images of four sets", "a part held out of training"),
        Fault("budget", "an eighth of the batch, five times the steps of its rival", "matched"),
        Fault("spread", "one run each", "several seeds, intervals"),
    ),
)
