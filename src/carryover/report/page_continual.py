"""The continual study's entry on the page: question, figures, faults of the original."""

from __future__ import annotations

from carryover.report.page_study import Fault, Shown, Study

CONTINUAL = Study(
    "Continual",
    "Does freezing all, part or none of a pretrained encoder help it to learn tasks in turn?",
    "jatkar123/Thesis_CL_FLAVA",
    {
        "accuracy": Shown(
            "Line plots: accuracy after each experience, a panel an arm, a line a strategy",
            "Accuracy on all test images of the stream after each experience; bars are 95 % "
            "intervals over test images and seeds. Hollow: what the original logged, where the "
            "stream is the same.",
        ),
        "final": Shown(
            "Dot plots: test accuracy beside training accuracies after the last experience",
            "Test accuracy beside the training accuracies of the last epoch: on the experience's "
            "own images, on replayed ones, and on all shown, which is what the original reports.",
        ),
        "forgetting": Shown(
            "Dot plots: forgetting by strategy, one mark an arm",
            "How much of a task's best accuracy is gone at the end of the stream; below 0 it "
            "was gained. Chunks of one set have one test set and nothing to forget.",
        ),
        "matrix": Shown(
            "Heat maps: accuracy on each task after each experience",
            "Accuracy on each task (columns) after each experience (rows), mean over seeds.",
        ),
        "training": Shown(
            "Line plots: training accuracy by epoch, a panel an arm, a line a strategy",
            "Accuracy on the images shown, by epoch.",
        ),
        "training-loss": Shown(
            "Line plots: loss by epoch, a panel an arm, a line a strategy",
            "Loss on the images shown, by epoch; the dash-dotted line is the least that outputs "
            "between 0 and 1 can have.",
        ),
        "cka": Shown(
            "Line plots: CKA with the encoder before training, by layer and experience",
            "Similarity (CKA) of each layer with itself before any training, after each "
            "experience; bands are 95 % intervals.",
        ),
        "cka-layers": Shown(
            "Heat maps: CKA of each layer after training with each before",
            "Similarity of each layer after the stream (rows) with each before it (columns).",
        ),
        "cka-between": Shown(
            "Line plots: CKA between frozen, partly frozen and unfrozen encoders, by layer",
            "Similarity of equal layers of a frozen, a partly frozen and an unfrozen encoder after "
            "the same stream; bands are 95 % intervals over images.",
        ),
        "cka-untrained": Shown(
            "Line plot: CKA and the published score of two encoders as loaded",
            "A frozen and a partly frozen encoder before any training, which are the same: CKA "
            "says so, the score that was published as CKA does not.",
        ),
    },
    (
        Fault(
            "accuracy reported for birds",
            "11, 36 and 92 % on training images; on test images the first two are 4.9 and 5.0 %",
            "on test images",
        ),
        Fault(
            "replay",
            "replayed images count towards training accuracy",
            "images of the experience and replayed ones apart",
        ),
        Fault("pixels", "rescaled twice, so that images are nearly constant", "rescaled once"),
        Fault("colour", "birds in grey", "in colour"),
        Fault("loss", "a sigmoid before it bounds every logit", "on raw logits"),
        Fault(
            "learning rate, batch, epochs",
            "differ between the arms that are compared",
            "one budget, rates chosen on validation images",
        ),
        Fault(
            "failed arms",
            "name one class for every image, and are read as a law about freezing",
            "predictors of one class are flagged",
        ),
        Fault(
            "stream",
            "chunks of one shuffled set: nothing shifts, so nothing can be forgotten",
            "class by class, and real shifts",
        ),
        Fault(
            "similarity of networks",
            "a formula that is not CKA, of a network with itself, on one random image",
            "centred linear CKA before and after training",
        ),
        Fault("spread", "one run each, no seeds", "three seeds, intervals"),
    ),
)
