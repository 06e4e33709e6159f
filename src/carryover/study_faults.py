"""What studies ask of sets and encoders that these do not have, as far as it is cheap to know."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from carryover import prepare
from carryover.adapt.children import left_by
from carryover.adapt.freeze import since_block
from carryover.config.continual_arms import OWN_HEAD, Arm
from carryover.config.contrastive import Contrastive
from carryover.config.networks import Pretrain
from carryover.data import catalog, store
from carryover.errors import ConfigError, listed, pick
from carryover.sequence_methods import DISTILLATIONS, METHODS, length_faults, needs_reference

if TYPE_CHECKING:
    from torch import nn

    from carryover.config.params import Params
    from carryover.config.sequence import Sequence
    from carryover.models.depth import Depth

IN_EVERY_CLIP = {"attn", "mlp.c_fc", "mlp.c_proj"}  # ends of names of layers of its text tower
CHILDREN = {  # of the image networks of `pretrain`, as torch lists them
    "clip": ("conv1", "patch_dropout", "ln_pre", "transformer", "ln_post"),
    "flava": ("embeddings", "encoder", "layernorm", "projection"),
}
SQUARE = (1, 1024, 1024)  # image that a small CNN is laid out for here: room for all its pooling
WITHOUT_HEAD = ("open-clip", "flava", "flava-image")  # sources of no classifier


def study_faults(params: Params) -> list[str]:
    """Faults of the studies on encoders, under full paths; the rest is for the stages to refuse."""
    faults = _encoder_faults(params) + _adapt_faults(params)
    faults += _continual_faults(params) + _sequence_faults(params)
    stored = known_classes(params.retrieval.dataset)
    if stored is not None:
        faults += [f"retrieval.{fault}" for fault in params.retrieval.memory_faults(stored)]
    return faults


def known_classes(dataset: str) -> int | None:
    """Classes of a set, from its manifest or the catalogue; None where neither knows it."""
    folder = prepare.SETS / dataset
    if (folder / "manifest.json").exists():
        return len(store.manifest(folder)["class_names"])
    known = catalog.DATASETS.get(dataset)
    return known.classes if known else None


def _encoder_faults(params: Params) -> list[str]:
    """Sources that are none, and kinds and layers that encoders do not have."""
    from carryover.models.features import Feature, check

    faults = []
    for name, entry in params.encoders.items():
        path = f"encoders.{name}"
        try:
            depth = _depth(params, entry.source)
        except ConfigError as error:
            faults.append(f"{path}.source: {error}")
            continue
        asked = {
            "kinds": [Feature(kind) for kind in entry.kinds],
            "layers": [Feature("pooled", layer) for layer in entry.layers or ()],
        }
        for key, features in asked.items():
            try:
                check(f"{path}.{key}", depth, features) if depth else None
            except ConfigError as error:
                faults.append(str(error))
    started = (params.retrieval.starts or {}).items()
    sources = {"memory.encoder": params.retrieval.memory.encoder}
    sources |= {f"starts.{i}.{control}": s for i, each in started for control, s in each.items()}
    for key, source in sources.items():
        try:
            _depth(params, source.source)
        except ConfigError as error:
            faults.append(f"retrieval.{key}.source: {error}")
    return faults


def _depth(params: Params, source: str) -> Depth | None:
    """How an encoder is built, by its recipe or name alone; None where these do not tell.

    That is so for FLAVA, whose files say it, and for networks that compute while they are built.

    Raises:
        ConfigError: no such source.
    """
    import torch
    from torch import nn

    from carryover.models import openclip, selfsupervised, simclr, vision
    from carryover.models.cnn import cnn
    from carryover.models.depth import Depth, Tap, depth_of
    from carryover.models.encoders import parsed
    from carryover.pretrain.selfsupervised import describe

    family, name = parsed(source, "encoder")
    recipe = pick(params.pretrain, name, "pretrain") if family == "pretrain" else None
    if isinstance(recipe, Contrastive):
        groups = _outline(recipe)[1]
        taps = {group: Tap("", "output") for group in groups if group != "output"}
        return Depth(groups, taps, None, cls=True, projects=True)
    try:
        with torch.device("meta"):
            if family == "open-clip":
                return depth_of(openclip.bare(name).visual)
            if family in vision.BUILDERS:
                network, _, take_head = vision.BUILDERS[family](name)
                take_head(network)
                return depth_of(network)
            if family == "simclr":
                return depth_of(simclr.network(name))
            if isinstance(recipe, Pretrain):
                fields = asdict(recipe.network) | {"image_shape": SQUARE, "classes": 2}
                whole = cnn(**fields, generator=torch.Generator("cpu"))
                return depth_of(nn.Sequential(OrderedDict(list(whole.named_children())[:-1])))
            if recipe is not None:
                return depth_of(selfsupervised.build(describe(recipe))[0])
    except RuntimeError:  # some of timm's networks compute while they are built
        return None
    return None


def _adapt_faults(params: Params) -> list[str]:
    """A class or blocks that the adaptation study names and its set or encoder does not have."""
    study, faults = params.adapt, []
    classes = known_classes(study.dataset)
    if classes is not None and study.fault_class >= classes:
        faults.append(
            f"adapt.fault_class: expected a class of {study.dataset}, 0 to {classes - 1}, got "
            f"{study.fault_class}"
        )
    blocks = _known_blocks(params, params.encoders[study.encoder].source)
    if blocks is not None and {"unfreeze", "llrd"} & set(study.items):
        lasts = [mode for mode in study.unfreeze if mode.startswith("last-")]
        groups: dict[str, list[str]] = {f"block{i}": [] for i in range(blocks)}
        groups["output"] = []
        wanted = [(-int(mode.removeprefix("last-")), "adapt.unfreeze") for mode in lasts]
        for block, path in [*wanted, (study.blocks_from, "adapt.blocks_from")]:
            try:
                since_block(groups, block, path)
            except ConfigError as error:
                faults.append(str(error))
    return faults


def _continual_faults(params: Params) -> list[str]:
    """Classes that make no equal tasks, heads and parts that encoders do not have."""
    study = params.continual
    arms = {n: arm for item in study.items for n, arm in study.arms_of(item).items()}
    used = {name: arm for name, arm in arms.items() if any(arm.cells())}
    faults = {
        f"continual.protocols.{protocol}.experiences: expected a divisor of the {classes} classes "
        f"of {dataset}, got {experiences}; take one that leaves every task equally many": None
        for arm in used.values()
        for stream, protocol, _ in arm.cells()
        for dataset in study.streams[stream]
        if study.protocols[protocol].kind == "classes"
        and (classes := known_classes(dataset)) is not None
        and classes % (experiences := study.protocols[protocol].experiences)
    }
    return [*faults, *(f for name, arm in used.items() for f in _arm_faults(params, name, arm))]


def _arm_faults(params: Params, name: str, arm: Arm) -> list[str]:
    """A head or a freeze that an arm's encoder does not have."""
    path = f"continual.arms.{name}"
    source = params.encoders[params.continual.encoder_of(arm)].source
    family, _, trained = source.partition(":")
    recipe = params.pretrain.get(trained) if family == "pretrain" else None
    trained_without = recipe is not None and not isinstance(recipe, Pretrain)
    if arm.head == OWN_HEAD and (family in WITHOUT_HEAD or trained_without):
        return [
            f"{path}.head: expected an encoder with a classifier of its own for {OWN_HEAD}, got "
            f"{source}; name another head"
        ]
    if arm.freeze and isinstance(recipe, Contrastive):
        try:
            left_by(arm.freeze, *_outline(recipe), f"{path}.freeze")
        except ConfigError as error:
            return [str(error)]
    return []


def _outline(recipe: Contrastive) -> tuple[nn.Module, dict[str, list[str]]]:
    """A recipe's image network by its children and layer groups alone, with no parameters."""
    from torch import nn

    image = nn.Module()
    for child in CHILDREN[recipe.architecture]:
        image.add_module(child, nn.Identity())
    blocks = [f"block{i}" for i in range(recipe.image.layers)]
    return image, {name: [] for name in ("embed", *blocks, "output")}


def _sequence_faults(params: Params) -> list[str]:
    """Sentences that no set has, or layers to adapt that the encoder does not have."""
    from carryover.models.prompts import TEMPLATES

    study, faults = params.sequence, []
    if study.template and study.template not in TEMPLATES:
        faults.append(
            f"sequence.template: expected one of {listed(TEMPLATES)}, got {study.template!r}"
        )
    faults += _void_faults(study)
    adapts = any(METHODS[name].adapters for item in study.items for name in study.methods[item])
    if adapts and not set(study.lora.targets) <= IN_EVERY_CLIP:
        from carryover.adapt.lora import chosen

        try:
            network = _bare(params, params.encoders[study.encoder].source)
            if network is not None:
                chosen(network, study.lora.targets)
        except ConfigError as error:
            faults.append(f"sequence.{error}")
    return faults


def _void_faults(study: Sequence) -> list[str]:
    """Settings by which a method would not do what it is called after, or its length not fit."""
    used = {name: METHODS[name] for item in study.items for name in study.methods[item]}
    distilling = [name for name, method in used.items() if method.distillation]
    trained = {name for order in study.orders.values() for name in order}
    faults = []
    if needs_reference(used) and study.distill.reference in trained:
        faults.append(
            "sequence.distill.reference: expected a set that no order trains on, got "
            f"{study.distill.reference!r}; its images would be a task's"
        )
    if distilling and study.train_mode == "text":
        faults.append(
            f"sequence.train_mode: expected one that trains the image network, as "
            f"{listed(distilling)} distil through it, got 'text'; leave them out or train whole"
        )
    stored = max(map(len, study.orders.values())) - 1  # sets, before the last one
    if study.distill.memory_size < stored and any(
        DISTILLATIONS[each.distillation].images == "memory"
        for each in used.values()
        if each.distillation
    ):
        faults.append(
            f"sequence.distill.memory_size: expected an image or more of each of {stored} sets, "
            f"got {study.distill.memory_size}; raise it"
        )
    return faults + (length_faults(study, study.updates) if study.updates else [])


def _bare(params: Params, source: str) -> nn.Module | None:
    """The layers of a CLIP, without weights; None of another family: there the study refuses."""
    import torch

    from carryover.models import nano, openclip
    from carryover.pretrain import networks

    family, _, name = source.partition(":")
    recipe = params.pretrain.get(name) if family == "pretrain" else None
    with torch.device("meta"):
        if isinstance(recipe, Contrastive):
            return cast("nn.Module", nano.build(networks.describe(recipe, [])))
        return cast("nn.Module", openclip.bare(name)) if family == "open-clip" else None


def _known_blocks(params: Params, source: str) -> int | None:
    """Blocks of an encoder by its recipe or open_clip's config; None where it must be built.

    That is so for timm, torchvision, FLAVA and small CNNs: there the study refuses at its start.
    """
    family, _, name = source.partition(":")
    if family == "pretrain":
        recipe = params.pretrain[name]
        return recipe.image.layers if isinstance(recipe, Contrastive) else None
    if family != "open-clip":
        return None
    import open_clip

    architecture = name.replace("/", "-").removesuffix("-quickgelu")
    layers = (open_clip.get_model_config(architecture) or {}).get("vision_cfg", {}).get("layers")
    return sum(layers) if isinstance(layers, list) else layers
