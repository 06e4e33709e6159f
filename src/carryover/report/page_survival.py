"""The entry on the page of what survived in all studies' models: question and figures."""

from __future__ import annotations

from carryover.report.page_study import Shown, Study

SURVIVAL = Study(
    "What survived",
    "How much of what a pretrained model could do is left after each way of adapting it?",
    "the literature",
    {
        "kept": Shown(
            "Dot plots: share kept of the start by each kind of adapted model, four measures",
            "From 0, nothing is left of the start, to 1, adapting cost nothing: what a model still "
            "answers untaught, what a probe and nearest neighbours read from its features, and "
            "how alike its embeddings are to the start's; bars are 95 % intervals over seeds.",
        ),
        "layers": Shown(
            "Heat maps: CKA with the start by layer group, a line each kind of adapted model",
            "Where in the network it was changed: how alike each layer's features are to those of "
            "the same layer of the start, from input to output; a dot where seeds differ.",
        ),
        "mixing": Shown(
            "Line plots: accuracy on source against target along the line from start to adapted",
            "Weights mixed with the start's: a point near the upper right keeps what was known "
            "and has what was learned; a dent in between is a barrier.",
        ),
    },
    (),
    "survival",
)
