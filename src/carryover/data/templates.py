"""What is said of the classes of known sets: sentences with a place for the name, and other names.

Those of MTIL's sets are the published study's: the first is trained with, all are tested with.
Class names are the set's own (or torchvision's and open_clip's, where its files have none) with
spaces for underscores, but for those in `NAMES`. Parts of a set (`food10` of Food-101) have its
sentences. Sets in neither table have one general sentence: for YTBB-Robust no published list is
known; wise-ft's of FMoW and iWildCam are not taken over.

Source: MTIL's lists, which are CLIP's (github.com/openai/CLIP, data/prompts.md).
"""

from __future__ import annotations

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

NAMES: dict[str, dict[str, str]] = {  # by the set's own name of a class
    "mnist": {str(number): f"{number} - {word}" for number, word in enumerate(NUMBERS)},
    "caltech101": {
        "Faces": "off-center face",
        "Faces_easy": "centered face",
        "Leopards": "leopard",
        "Motorbikes": "motorbike",
        "airplanes": "airplane",
        "car_side": "side of a car",
        "cougar_body": "body of a cougar cat",
        "cougar_face": "face of a cougar cat",
        "crocodile_head": "head of a  crocodile",  # as published, with two spaces
        "flamingo_head": "head of a flamingo",
        "snoopy": "snoopy (cartoon beagle)",
        "yin_yang": "yin and yang symbol",
    },
    "eurosat": {
        "AnnualCrop": "annual crop land",
        "Forest": "forest",
        "HerbaceousVegetation": "brushland or shrubland",
        "Highway": "highway or road",
        "Industrial": "industrial buildings or commercial buildings",
        "Pasture": "pasture land",
        "PermanentCrop": "permanent crop land",
        "Residential": "residential buildings or homes or apartments",
        "River": "river",
        "SeaLake": "lake or sea",
    },
}

ARTICLES = ("a", "the")


def _both(*sentences: str) -> tuple[str, ...]:
    """Each sentence with "a" in place of @, then each with "the"."""
    return tuple(each.replace("@", article) for article in ARTICLES for each in sentences)


_CIFAR = _both(
    *("a photo of @ {}.", "a blurry photo of @ {}.", "a black and white photo of @ {}."),
    *("a low contrast photo of @ {}.", "a high contrast photo of @ {}.", "a bad photo of @ {}."),
    *("a good photo of @ {}.", "a photo of @ small {}.", "a photo of @ big {}."),
)
_CALTECH = _both(
    *("a photo of @ {}.", "a painting of @ {}.", "@ plastic {}.", "a sculpture of @ {}."),
    *("a sketch of @ {}.", "a tattoo of @ {}.", "@ toy {}.", "a rendition of @ {}."),
    *("@ embroidered {}.", "@ cartoon {}.", "@ {} in a video game.", "@ plushie {}."),
    *("@ origami {}.", "art of @ {}.", "graffiti of @ {}.", "a drawing of @ {}."),
    "a doodle of @ {}.",
)
_CARS = (
    *("a photo of a {}, a type of car.", "a photo of a {}.", "a photo of the {}."),
    *("a photo of my {}.", "i love my {}!", "a photo of my dirty {}.", "a photo of my clean {}."),
    *("a photo of my new {}.", "a photo of my old {}."),
)
_SATELLITE = "a centered satellite photo of"

_IMAGENET = (  # CLIP's eighty, the one that the published study trains with first
    *("a photo of a {}.", "a bad photo of a {}.", "a photo of many {}."),
    *("a sculpture of a {}.", "a photo of the hard to see {}."),
    *("a low resolution photo of the {}.", "a rendering of a {}.", "graffiti of a {}."),
    *("a bad photo of the {}.", "a cropped photo of the {}.", "a tattoo of a {}."),
    *("the embroidered {}.", "a photo of a hard to see {}.", "a bright photo of a {}."),
    *("a photo of a clean {}.", "a photo of a dirty {}.", "a dark photo of the {}."),
    *("a drawing of a {}.", "a photo of my {}.", "the plastic {}."),
    *("a photo of the cool {}.", "a close-up photo of a {}."),
    *("a black and white photo of the {}.", "a painting of the {}.", "a painting of a {}."),
    *("a pixelated photo of the {}.", "a sculpture of the {}.", "a bright photo of the {}."),
    *("a cropped photo of a {}.", "a plastic {}.", "a photo of the dirty {}."),
    *("a jpeg corrupted photo of a {}.", "a blurry photo of the {}.", "a photo of the {}."),
    *("a good photo of the {}.", "a rendering of the {}.", "a {} in a video game."),
    *("a photo of one {}.", "a doodle of a {}.", "a close-up photo of the {}."),
    *("the origami {}.", "the {} in a video game.", "a sketch of a {}."),
    *("a doodle of the {}.", "a origami {}.", "a low resolution photo of a {}."),
    *("the toy {}.", "a rendition of the {}.", "a photo of the clean {}."),
    *("a photo of a large {}.", "a rendition of a {}.", "a photo of a nice {}."),
    *("a photo of a weird {}.", "a blurry photo of a {}.", "a cartoon {}.", "art of a {}."),
    *("a sketch of the {}.", "a embroidered {}.", "a pixelated photo of a {}."),
    *("itap of the {}.", "a jpeg corrupted photo of the {}.", "a good photo of a {}."),
    *("a plushie {}.", "a photo of the nice {}.", "a photo of the small {}."),
    *("a photo of the weird {}.", "the cartoon {}.", "art of the {}."),
    *("a drawing of the {}.", "a photo of the large {}.", "a black and white photo of a {}."),
    *("the plushie {}.", "a dark photo of a {}.", "itap of a {}.", "graffiti of the {}."),
    *("a toy {}.", "itap of my {}.", "a photo of a cool {}.", "a photo of a small {}."),
    "a tattoo of the {}.",
)
_DTD = _both(
    *(f"a photo of @ {{}} {what}." for what in ("texture", "pattern", "thing", "object")),
)

OF_PHOTOS: dict[str, tuple[str, ...]] = {
    "aircraft": ("a photo of a {}, a type of aircraft.", "a photo of the {}, a type of aircraft."),
    "caltech101": _CALTECH,
    **dict.fromkeys(("cars", "cars196"), _CARS),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    **dict.fromkeys(("dtd", "dtd10"), _DTD),
    "eurosat": (f"{_SATELLITE} {{}}.", f"{_SATELLITE} a {{}}.", f"{_SATELLITE} the {{}}."),
    **dict.fromkeys(("flowers", "flowers89"), ("a photo of a {}, a type of flower.",)),
    **dict.fromkeys(("food-101", "food10"), ("a photo of a {}, a type of food.",)),
    "mnist": ('a photo of the number: "{}".',),
    "oxford-pet": ("a photo of a {}, a type of pet.",),
    "sun397": ("a photo of a {}.", "a photo of the {}."),
    **dict.fromkeys(("imagenet", "imagenet-a", "imagenet-r", "imagenet-sketch"), _IMAGENET),
    **dict.fromkeys(("imagenet-v2", "imagenet-vid-robust", "objectnet"), _IMAGENET),
}
