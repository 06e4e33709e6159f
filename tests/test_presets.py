from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from carryover import presets
from carryover.config import params as config
from carryover.config import reader
from carryover.errors import ConfigError
from conftest import REPOSITORY, Checkout

FOLDER = REPOSITORY / "presets"
NAMES = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
OTHERS = [name for name in NAMES if name != "mini"]
PARAMS = Path("params.yaml")


def test_there_are_presets_beside_mini(checkout: Checkout) -> None:
    assert presets.names() == NAMES
    assert "mini" in NAMES
    assert OTHERS


def test_params_yaml_holds_mini() -> None:
    tree = reader.load(REPOSITORY / "params.yaml")
    assert tree == reader.load(REPOSITORY / "presets" / "mini.yaml")
    assert (REPOSITORY / "params.yaml").read_text() == (
        REPOSITORY / "presets" / "mini.yaml"
    ).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_read_strictly(checkout: Checkout, name: str) -> None:
    params = config.parse(presets.tree(name), name)
    assert params.cuts.preset == name.split("/")[0]


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_is_its_base_with_what_its_file_says(checkout: Checkout, name: str) -> None:
    changes = reader.load(Path("presets") / f"{name}.yaml")
    assert ("base" in changes) == ("/" in name)
    below = presets.tree(changes.pop("base", "mini"))
    file, base, merged = (presets._flat(tree) for tree in (changes, below, presets.tree(name)))
    assert merged.items() >= file.items()
    changed = {key for key in merged if base.get(key) != merged[key]}
    assert changed <= {*file, "data.names"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_names_the_networks_encoders_and_sets_of_its_studies_alone(
    checkout: Checkout, name: str
) -> None:
    tree = presets.tree(name)
    used = {tree[study]["pretrained"] for study in ("cuts", "clusters")}
    continual = tree["continual"]
    encoders = {tree["adapt"]["encoder"], continual["encoder"], continual["logistic"]["encoder"]}
    encoders |= {arm["encoder"] for arm in continual["arms"].values()}
    encoders |= {tree["sequence"]["encoder"]}
    encoders -= {None}
    sources = [tree["encoders"][name]["source"] for name in encoders]
    retrieval = tree["retrieval"]
    starts = [start for each in (retrieval["starts"] or {}).values() for start in each.values()]
    sources += [entry["source"] for entry in (retrieval["memory"]["encoder"], *starts)]
    used |= {s.removeprefix("pretrain:") for s in sources if s.startswith("pretrain:")}
    assert set(tree["pretrain"]) == used
    assert set(tree["encoders"]) == encoders
    sets = {tree[study]["dataset"] for study in ("cuts", "clusters", "adapt", "retrieval")}
    sets |= {retrieval["memory"]["other"]} - {None}
    for recipe in tree["pretrain"].values():
        sets |= set(recipe.get("datasets") or [recipe["dataset"]])
    sets |= {name for entry in tree["encoders"].values() for name in entry["datasets"]}
    sets |= {tree["sequence"]["distill"][key] for key in ("reference", "sentences_of")}
    assert set(tree["data"]["names"]) == sets


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith(("published", "corrected"))])
def test_all_tokens_of_the_published_encoders_are_stored_in_float32(
    checkout: Checkout, name: str
) -> None:
    entries = presets.tree(name)["encoders"].values()
    assert {entry["tokens"] for entry in entries if "tokens" in entry["kinds"]} == {"float32"}


@pytest.mark.parametrize("name", OTHERS)
def test_a_preset_is_written_and_mini_comes_back_byte_for_byte(
    checkout: Checkout, name: str
) -> None:
    before = checkout.params.read_text()
    assert presets.apply(name, "").startswith(f"params.yaml now holds preset {name}")
    assert reader.load(PARAMS) == presets.tree(name)
    after = checkout.params.read_text()
    assert "# every random draw descends from it, by purpose" in after
    assert "# the same budget at every fraction (published: by epochs alone)" in after
    presets.apply("mini", "")
    assert checkout.params.read_text() == before


@pytest.mark.parametrize("name", ["lab", "published/thesis"])
def test_values_that_equal_a_preset_are_told_so(checkout: Checkout, name: str) -> None:
    presets.apply(name, "")
    assert presets.describe() == (f"params.yaml equals preset {name}", True)


def test_a_preset_that_is_edited_is_read_again(checkout: Checkout) -> None:
    path = presets.PRESETS / "lab.yaml"
    assert presets.tree("lab")["survival"]["images"] == 1000
    path.write_text(path.read_text().replace("images: 1000", "images: 999"))
    assert presets.tree("lab")["survival"]["images"] == 999


def test_a_folder_of_sets_is_written_with_a_preset_or_alone(checkout: Checkout) -> None:
    before = checkout.params.read_text()
    assert presets.apply("", "", "/data") == "params.yaml now holds data.root /data"
    changed = [line for line in checkout.params.read_text().splitlines() if line not in before]
    assert [line.split("#")[0].strip() for line in changed] == ["root: /data"]
    assert presets.apply("lab", "", "/data").startswith(
        "params.yaml now holds preset lab with data.root /data"
    )
    lab = presets.tree("lab")
    assert reader.load(PARAMS) == lab | {"data": lab["data"] | {"root": "/data"}}


def test_applying_what_is_there_changes_no_byte(checkout: Checkout) -> None:
    before = checkout.params.read_bytes()
    presets.apply("mini", "")
    assert checkout.params.read_bytes() == before


@pytest.mark.parametrize(
    "name", [name for name in OTHERS if "cuts" in reader.load(FOLDER / f"{name}.yaml")]
)
def test_one_studys_part_brings_its_network_and_set(checkout: Checkout, name: str) -> None:
    checkout.edit(seed=7)
    presets.apply(name, "cuts")
    now, wanted = reader.load(PARAMS), presets.tree(name)
    assert now["cuts"] == wanted["cuts"]
    assert now["seed"] == 7
    used = wanted["cuts"]["pretrained"]
    kept = presets.tree("mini")["pretrain"]  # of the study that stays
    assert now["pretrain"] == {used: wanted["pretrain"][used], **kept}
    assert wanted["cuts"]["dataset"] in now["data"]["names"]


def test_one_studys_part_leaves_the_order_of_the_sets_there_are(checkout: Checkout) -> None:
    before = reader.load(PARAMS)["data"]["names"]
    presets.apply("mini-full", "sequence")
    assert reader.load(PARAMS)["data"]["names"] == before


def test_unknown_names_are_refused(checkout: Checkout) -> None:
    before = checkout.params.read_bytes()
    with pytest.raises(ConfigError, match=f"preset: expected one of {', '.join(NAMES)}, got 'big'"):
        presets.apply("big", "")
    with pytest.raises(
        ConfigError,
        match="--study: expected one of cuts, clusters, adapt, continual, sequence, retrieval, "
        "survival, got 'cut'",
    ):
        presets.apply("mini", "cut")
    assert checkout.params.read_bytes() == before


def test_a_preset_with_a_fault_is_refused_before_anything_is_written(checkout: Checkout) -> None:
    Path("presets/broken.yaml").write_text("cuts:\n  preset: broken\n  lr: fast\n")
    before = checkout.files()
    with pytest.raises(ConfigError, match=r"preset broken: cuts\.lr: expected a number, got text"):
        presets.apply("broken", "")
    assert checkout.files() == before


def test_an_edited_value_is_told_with_the_nearest_preset(checkout: Checkout) -> None:
    checkout.edit(**{"cuts.lr": 0.5})
    text, equal = presets.describe()
    lr = presets.tree("mini")["cuts"]["lr"]
    assert not equal
    assert text == (f"params.yaml is nearest to preset mini (1 differing)\n  cuts.lr: {lr} -> 0.5")


def test_the_check_tells_by_its_exit_code(checkout: Checkout) -> None:
    done = checkout.run("preset", "--check")
    assert (done.returncode, done.stdout) == (0, "params.yaml equals preset mini\n")
    checkout.edit(**{"cuts.lr": 0.5})
    done = checkout.run("preset", "--check")
    assert done.returncode == 1
    assert "cuts.lr: " in done.stdout
    checkout.edit(**{"cuts.lr": "x"})
    done = checkout.run("preset", "--check")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("carryover: params.yaml: cuts.lr: expected a number")


def test_results_of_what_is_no_longer_listed_go(checkout: Checkout) -> None:
    lock = {
        "schema": "2.0",
        "stages": {
            name: {"cmd": "x", "outs": []}
            for name in ("data@digits", "data@old", "cuts@fr", "cuts@old", "cuts-report", "mine")
        },
    }
    with Path("dvc.lock").open("w") as file:
        YAML(typ="safe", pure=True).dump(lock, file)
    folders = ("data/sets/digits", "data/sets/old", "data/models/gone", "reports/cuts/runs/fr")
    for folder in (*folders, "reports/cuts/runs/old"):
        (checkout.root / folder).mkdir(parents=True)
    removed = presets.prune(config.read(PARAMS))
    assert sorted(removed) == ["cuts@old", "data@old", "pretrain@gone"]
    left = YAML(typ="safe", pure=True).load(Path("dvc.lock").read_text())
    assert sorted(left["stages"]) == ["cuts-report", "cuts@fr", "data@digits", "mine"]
    assert [Path(folder).exists() for folder in folders] == [True, False, False, True]
    assert presets.prune(config.read(PARAMS)) == []


def test_a_broken_file_is_replaced_by_a_preset(checkout: Checkout) -> None:
    whole = PARAMS.read_text()
    for broken in ("", "a: [", "- 1\n"):
        PARAMS.write_text(broken)
        presets.apply("mini", "")
        assert PARAMS.read_text() == whole
