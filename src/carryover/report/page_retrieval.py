"""The retrieval study's entry on the page: question, figures, faults of the original."""

from __future__ import annotations

from carryover.report.page_study import Fault, Shown, Study

RETRIEVAL = Study(
    "Retrieval",
    "Does looking up stored embeddings help a classifier, and against noise?",
    "alexchandler100/MAT_180",
    {
        "steps": Shown(
            "Line plots: test accuracy, training loss and the published metric over updates",
            "Accuracy on all test images over updates, with and without retrieval; the dashed "
            "line is a vote of the neighbours, which trains nothing. Lowest: what the published "
            "metric, a maximum of estimates on 768 images, adds.",
        ),
        "efficiency": Shown(
            "Dot plots: updates until 80 % are right, and area under the accuracy curve, by arm",
            "How soon each arm learns. Memories that say nothing (zeros, shuffled, one entry) "
            "have the same added weights; an arrow is a lower bound.",
        ),
        "controls": Shown(
            "Dot plots: accuracy of each arm, and its difference from nearest neighbours",
            "Accuracy after the last update. Vote and probe are of the stored features alone; "
            "each other arm changes one thing.",
        ),
        "noise": Shown(
            "Line plots: accuracy by the deviation of noise on the test pixels",
            "What noise costs with and without retrieval. With a query that is not noisy the "
            "part of the stored network's own invariance shows.",
        ),
        "memory": Shown(
            "Line plots: accuracy by entries retrieved and by the memory's size",
            "How much the number of neighbours and of stored images matters; the grey band is "
            "the plain network.",
        ),
        "corruptions": Shown(
            "Line plots: accuracy by severity of common corruptions of the test images",
            "Accuracy under common corruptions, which nothing was trained with.",
        ),
        "calibration": Shown(
            "Dot plots: calibration error and loss by arm",
            "Whether the probabilities can be trusted; to the left is better.",
        ),
        "nearest": Shown(
            "Pictures: test images, the entries retrieved for each, and their weights",
            "What is retrieved for the first test image of each class, and the share of the "
            "attention that each entry has.",
        ),
    },
    (
        Fault(
            "retrieval block",
            "mixes up positions and channels even where it adds nothing",
            "with nothing to add it leaves the network as it is",
        ),
        Fault("random entries", "always the first entry, k times", "drawn from all entries"),
        Fault(
            "accuracy reported",
            "the highest of many estimates on 768 images",
            "after the last step, on all test images",
        ),
        Fault(
            "training images in the memory",
            "each finds itself in training, never in the test",
            "no training image in the memory, or itself left out",
        ),
        Fault(
            "without retrieval",
            "a third of the weights fewer, and no look at what the memory's network learned",
            "as many weights; memories of zeros, shuffled, of one entry; pretrained weights",
        ),
        Fault(
            "what the memory is worth alone",
            "not measured",
            "a vote of the neighbours and a probe of the features",
        ),
        Fault(
            "output and pixels",
            "1000 outputs for 10 classes, pixels as they are",
            "one output a class, pixels normalised",
        ),
        Fault(
            "optimiser, seeds, epochs",
            "others with retrieval than without",
            "the same; rates chosen on held out training images",
        ),
    ),
)
