"""What the page says of each study before any number: question, figures, faults of the original."""

from __future__ import annotations

from carryover.report.page_adapt import ADAPT
from carryover.report.page_continual import CONTINUAL
from carryover.report.page_retrieval import RETRIEVAL
from carryover.report.page_sequence import SEQUENCE
from carryover.report.page_study import Fault, Shown, Study
from carryover.report.page_survival import SURVIVAL

__all__ = ["STUDIES", "Study"]

STUDIES = {
    "survival": SURVIVAL,
    "cuts": Study(
        "Cuts",
        "How many layers of a small CNN should be kept, and how does it depend on data?",
        "tusharmanekar/mp-tl-study",
        {
            "difference": Shown(
                "Line plots: accuracy gained by each cut, by share of the training images",
                "Median accuracy minus the median from scratch, by share of the target training "
                "images, one line a cut; bars are 95 % bootstrap intervals over paired repeats.",
            ),
            "box": Shown(
                "Box plots: accuracy by cut and share of the training images",
                "Accuracy by cut; boxes and dots over repeats, coloured by rank group, the dotted "
                "line is the median from scratch.",
            ),
        },
        (
            Fault(
                "tested on",
                "the target's training part, images that were trained on included (CIFAR-10 FR and "
                "the seed era: real test images)",
                "real test images",
            ),
            Fault("best cut chosen by", "test accuracy", "validation accuracy"),
            Fault(
                "updates",
                "more on more data: on MNIST 40 at 0.1 %, 280 at 100 %",
                "300 at every share of the data",
            ),
            Fault(
                "FR against FT on CIFAR-10",
                "on different images: even the cut where both are the same networks differs",
                "on the same images",
            ),
            Fault(
                "weights at the end",
                "best validated if stopped early, else the last",
                "best validated",
            ),
            Fault(
                "training from scratch",
                "the same draws as FR at cut 0, so one experiment counts twice",
                "the same images, its own weights and batches",
            ),
            Fault(
                "repeats at 50 % and 100 %",
                "5: no signed-rank test can fall below p = 0.0625",
                "12: it can, also after Holm's correction over 28 pairs",
            ),
            Fault("validation part", "a random tenth", "a stratified tenth"),
        ),
    ),
    "clusters": Study(
        "Clusters",
        "Do clusters of a layer's features tell which layers to keep?",
        "tusharmanekar/mp-tl-study",
        {
            "predict": Shown(
                "Scatter plots: a layer's clustering score against the accuracy of its cut",
                "How well a layer's features cluster against the accuracy of the cut that keeps "
                "the layer last.",
            ),
            "box": Shown(
                "Box plots: adjusted Rand index by layer",
                "Adjusted Rand index by layer; boxes and dots over repeats.",
            ),
        },
        (
            Fault(
                "best and mean channel",
                "in the seed era the channel's number entered its score",
                "scores alone",
            ),
            Fault(
                "which layers cluster best, and transfer best",
                "two figures beside each other, no test",
                "a rank correlation with an interval and an exact test; accuracy lost by the "
                "layer that clusters best",
            ),
            Fault(
                "accuracy it is held against",
                "on training images",
                "on test images, the best cut chosen on validation images",
            ),
        ),
    ),
    "adapt": ADAPT,
    "continual": CONTINUAL,
    "sequence": SEQUENCE,
    "retrieval": RETRIEVAL,
}
