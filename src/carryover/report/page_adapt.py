"""The adaptation study's entry on the page: question, figures, faults of the original."""

from __future__ import annotations

from carryover.report.page_study import Fault, Shown, Study

ADAPT = Study(
    "Adapt",
    "Which of CLIP's weights should learn a new set of images, and how does it depend on data?",
    "ayak2002/EC523_Chopped",
    {
        "accuracy": Shown(
            "Line plots: accuracy by share of the training images, one line a method",
            "Test accuracy by share of the training images; bars are 95 % intervals over test "
            "images and seeds, the dashed line is zero-shot, which takes no training image.",
        ),
        "fault": Shown(
            "Line plots: accuracy with correct and with faulty partitions, and the published",
            "The frozen probe on correct partitions, and with one class folder missing or too "
            "many from the dotted line on; beside it the published curves, which are all lower "
            "with all images than with half of them.",
        ),
        "retention": Shown(
            "Line plots: zero-shot accuracy after adapting, by share of the training images",
            "Zero-shot accuracy of the adapted encoder on the set itself and on other sets; "
            "the dashed line is the encoder before adapting.",
        ),
        "calibration": Shown(
            "Line plots: calibration error by share of the training images",
            "Expected calibration error by share of the training images; bars are 95 % "
            "intervals over seeds.",
        ),
        "time": Shown(
            "Dot plot: seconds an epoch of each method",
            "Seconds an epoch takes, median and range of the benchmark's turns; the probe "
            "trains on stored embeddings.",
        ),
    },
    (
        Fault(
            "more data hurts",
            "all five models are worse with all images than with half of them: partitions with 99 "
            "or 102 class folders, which shift labels, are the likely cause",
            "nested partitions with fixed labels and exact counts; the fault made on purpose "
            "beside them",
        ),
        Fault("loss", "softmax twice: it cannot fall below 3.63", "on raw logits"),
        Fault(
            "softmax of the embedding probe",
            "over the images of a batch: an answer depends on the images beside it",
            "none before the loss",
        ),
        Fault(
            "pixels",
            "squashed to a square, without CLIP's normalisation",
            "cropped and normalised as CLIP was trained",
        ),
        Fault(
            "attention and MLP weights",
            "tuned in half precision, where Adam's smallest term vanishes",
            "tuned in single precision",
        ),
        Fault(
            "layer norms alone",
            "one of the scripts tunes the whole encoder, another misspells two of its names",
            "groups that hold every weight once; what is frozen stays bit for bit",
        ),
        Fault(
            "falling learning rates",
            "by tensor: weight and bias of one norm get different rates",
            "by layer group",
        ),
        Fault("budget", "epochs and learning rate differ from arm to arm", "the same updates"),
        Fault(
            "settings chosen on",
            "no validation images: on test images, if on any",
            "validation images",
        ),
        Fault("spread", "one run, whole per cent", "several seeds, intervals"),
        Fault("zero-shot accuracy", "measured, not set beside the rest", "a line of its own"),
    ),
)
