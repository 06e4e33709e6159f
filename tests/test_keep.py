"""Results kept in git."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carryover import presets
from carryover.claims.evidence import gather_all
from carryover.claims.verify import verify
from carryover.config import reader
from carryover.config.cuts import GRID
from carryover.continual_drawn import Number, read_drawn, write_drawn
from carryover.errors import ConfigError, DataError
from carryover.files import digest_of_files, write_bytes, write_text
from carryover.keep import keep
from carryover.rows import Row, read_rows, write_rows
from carryover.stages import STAGES
from conftest import REPOSITORY, Checkout
from continual_rows import between, run
from retrieval_rows import run as retrieval_run

FRACTIONS = (0.001, 0.01)


def rows(preset: str, item: str, repeats: range, **changes: Any) -> list[Row]:
    """Rows of two cuts at two fractions, as if a preset had been run."""
    values = presets.tree(preset)
    made = {
        "preset": values["cuts"]["preset"],
        "data": "d",
        "weights": "w",
        "params": reader.digest_of(values, "seed", "cuts", without=GRID),
        "source": "s",
    } | changes
    cuts = (-1,) if item == "baseline" else (0, 4)
    return [
        Row(
            study="cuts",
            item=item,
            cell={
                "pair": values["cuts"]["pair"],
                "fraction": fraction,
                "cut": cut,
                "repeat": repeat,
            },
            split=split,
            metric="accuracy",
            value=0.5 + 0.01 * repeat + 0.1 * (cut == 4),
            n=n,
            precision="float32",
            **made,
        )
        for fraction in FRACTIONS
        for cut in cuts
        for repeat in repeats
        for split, n in (("train", 25), ("test", 29404))
    ]


def write(preset: str, item: str = "fr", repeats: range = range(3), **changes: Any) -> Path:
    path = Path("reports/cuts/runs") / item / "rows.jsonl"
    write_rows(path, rows(preset, item, repeats, **changes))
    return path


def test_rows_and_summary_go_under_preset_study_and_pair(checkout: Checkout) -> None:
    path = write("mini")
    write_text(Path("reports/cuts/summary.json"), "{}")
    assert keep("mini") == [Path("results/mini/cuts/digits")]
    kept = Path("results/mini/cuts/digits")
    assert (kept / "runs/fr/rows.jsonl").read_bytes() == path.read_bytes()
    assert (kept / "summary.json").read_text() == "{}"
    assert not (kept / "comparison.md").exists()  # nothing was released of this pair


def test_parts_of_a_grid_add_up(checkout: Checkout) -> None:
    write("published", repeats=range(3))
    keep("published")
    write("published", repeats=range(2, 5), source="a later version")
    write_text(Path("reports/cuts/summary.json"), "{}")
    (folder,) = keep("published")
    assert folder == Path("results/published/cuts/mnist")
    found = read_rows(folder / "runs/fr/rows.jsonl")
    test = [row for row in found if row.split == "test"]
    cells = [(row.cell["fraction"], row.cell["cut"], row.cell["repeat"]) for row in test]
    assert cells == [(f, c, r) for f in FRACTIONS for c in (0, 4) for r in range(5)]
    assert [row.source for row in test if row.cell["repeat"] == 2] == ["a later version"] * 4
    assert [row.source for row in test if row.cell["repeat"] == 1] == ["s"] * 4
    assert not (folder / "summary.json").exists()  # it describes a part only


def test_a_variant_of_a_preset_is_kept_under_it(checkout: Checkout) -> None:
    write("published/fashion-mnist")
    assert keep("published/fashion-mnist") == [Path("results/published/cuts/fashion-mnist")]


def test_the_source_network_is_kept_beside_its_rows(checkout: Checkout) -> None:
    name = presets.tree("published")["cuts"]["pretrained"]
    here = Path("data/models") / name
    digest = _network(here, b"first")
    write("published", weights=digest)
    (folder,) = keep("published")
    kept = (folder / name / "card.json").read_text()
    assert kept == (here / "card.json").read_text()
    _network(here, b"trained again")
    with pytest.raises(DataError, match=f"was made with .weights {digest}., got"):
        keep("published")
    assert (folder / name / "card.json").read_text() == kept


def _network(folder: Path, content: bytes) -> str:
    """A saved network of this content; its digest."""
    write_bytes(folder / "weights.safetensors", content)
    digest = digest_of_files([folder / "weights.safetensors"])
    write_text(folder / "card.json", json.dumps({"weights": digest}))
    return digest


def test_a_report_of_other_rows_is_not_kept(checkout: Checkout) -> None:
    write_text(Path("reports/cuts/summary.json"), "{}")
    path = write("published")
    os.utime(path, ns=(2**61, 2**61))  # run after the report was made
    (folder,) = keep("published")
    assert not (folder / "summary.json").exists()
    os.utime("reports/cuts/summary.json", ns=(2**61, 2**61))
    keep("published")
    assert (folder / "summary.json").exists()
    path = write("published", repeats=range(5, 7))
    os.utime("reports/cuts/summary.json", ns=(2**62, 2**62))
    keep("published")
    assert not (folder / "summary.json").exists()  # it no longer describes all that is kept


def test_rows_of_another_pair_name_its_preset(checkout: Checkout) -> None:
    write("published/fashion-mnist")
    with pytest.raises(DataError, match="expected rows of mnist, the pair of preset publ"):
        keep("published")


def test_where_results_were_released_both_are_compared(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    write("published")
    write("published", "baseline")
    (folder,) = keep("published")
    page = (folder / "comparison.md").read_text()
    assert "not run" in page  # the other fractions and cuts
    verdicts = (folder / "verdicts.md").read_text()
    for claim in ("T1", "T4", "T9", "T10"):
        assert claim in verdicts
    lines = (folder / "comparison.csv").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("mnist,fr,0.01,4,")]
    assert line.split(",")[4:6] == ["0.61", "0.932884"]  # ours, theirs
    assert (folder / "fr-both.svg").stat().st_size > 10_000


def test_kept_clusters_are_judged_with_the_cuts_of_their_pair(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    write("published")
    write("published", "baseline")
    (folder,) = keep("published")
    assert "T8" not in (folder / "verdicts.md").read_text()
    values = presets.tree("published")
    row = rows("published", "all", range(1))[0]
    cell = {"pair": "mnist", "fraction": 0.01, "repeat": 0, "layer": "conv0", "images": "finetune"}
    found = replace(
        row,
        study="clusters",
        cell=cell | {"method": "agglomerative"},
        metric="ari",
        params=reader.digest_of(
            values, *STAGES["clusters"].sections, without=STAGES["clusters"].grid
        ),
    )
    write_rows(Path("reports/clusters/runs/all/rows.jsonl"), [found])
    keep("published")
    assert "| T8* | mnist |" in (folder / "verdicts.md").read_text()


def test_rows_of_another_preset_are_not_kept(checkout: Checkout) -> None:
    write("mini")
    write("published", "ft")
    with pytest.raises(DataError, match="expected rows of preset lab, got mini, published; run"):
        keep("lab")
    assert not Path("results").exists()
    (folder,) = keep("published")  # what is left of mini stays where it is
    assert [path.name for path in (folder / "runs").iterdir()] == ["ft"]


def test_rows_of_changed_values_are_not_kept(checkout: Checkout) -> None:
    write("mini")
    write("mini", "ft", params="0123")
    with pytest.raises(DataError, match=r"ft/rows\.jsonl: expected rows of preset mini as it is"):
        keep("mini")
    assert not Path("results").exists()


def test_rows_of_another_source_network_are_not_mixed(checkout: Checkout) -> None:
    write("published")
    (folder,) = keep("published")
    before = (folder / "runs/fr/rows.jsonl").read_bytes()
    write("published", repeats=range(5), weights="others")
    with pytest.raises(DataError, match="expected rows of the same parameters, source network"):
        keep("published")
    assert (folder / "runs/fr/rows.jsonl").read_bytes() == before


def test_nothing_to_keep_is_told(checkout: Checkout) -> None:
    with pytest.raises(DataError, match="expected rows to keep, found none; run `dvc repro`"):
        keep("mini")
    with pytest.raises(ConfigError, match="preset: expected one of"):
        keep("big")


def test_a_digest_leaves_out_what_only_lists_cells(checkout: Checkout) -> None:
    values = json.loads(json.dumps(presets.tree("published")))
    whole = reader.digest_of(values, "seed", "cuts", without=GRID)
    values["cuts"] |= {"fractions": [0.1], "repeats": [2], "cuts": [1], "settings": ["fr"]}
    assert reader.digest_of(values, "seed", "cuts", without=GRID) == whole
    values["cuts"]["lr"] = 0.5
    assert reader.digest_of(values, "seed", "cuts", without=GRID) != whole


def of_preset(name: str, study: str, cell: dict[str, Any]) -> Row:
    """A row as a run of a preset would write it."""
    values, stage = presets.tree(name), STAGES[study]
    return Row(
        study=study,
        item="plain",
        preset=values[study]["preset"],
        cell=cell,
        split="test",
        metric="accuracy",
        value=0.5,
        n=10,
        data="d",
        weights="w",
        params=reader.digest_of(values, *stage.sections, without=stage.grid),
        source="s",
        precision="float32",
    )


@pytest.mark.parametrize("study", ["continual", "sequence"])
def test_rows_of_a_study_of_several_sets_are_kept_in_one_folder(
    checkout: Checkout, study: str
) -> None:
    cells = [{"dataset": name, "seed": 0} for name in ("digits", "letters")]
    found = [of_preset("mini", study, cell) for cell in cells]
    write_rows(Path(f"reports/{study}/runs/plain/rows.jsonl"), found)
    assert keep("mini") == [Path(f"results/mini/{study}")]
    assert read_rows(Path(f"results/mini/{study}/runs/plain/rows.jsonl")) == found


def test_variants_of_a_preset_with_values_of_their_own_are_kept_apart(checkout: Checkout) -> None:
    kept = []
    for name, order in (("published", "1"), ("published/thesis", "thesis")):
        row = of_preset(name, "sequence", {"dataset": "dtd", "order": order, "seed": 0})
        write_rows(Path("reports/sequence/runs/plain/rows.jsonl"), [row])
        kept += keep(name)
    assert kept == [Path("results/published/sequence"), Path("results/published/sequence/thesis")]
    found = gather_all(Path(), ["sequence"])["sequence", "published"]
    assert {row.cell["order"] for rows in found.rows.values() for row in rows} == {"1", "thesis"}


def learnt(values: dict[str, Any], protocol: str, weights: str = "w") -> list[Row]:
    """Rows of the continual study's frozen arms under one protocol, as if a preset had been run."""
    stage = STAGES["continual"]
    made = {
        "preset": values["continual"]["preset"],
        "params": reader.digest_of(values, *stage.sections, without=stage.grid),
        "weights": weights,
    }
    found = [run("frozen", "s-digits", protocol, strategy) for strategy in ("naive", "replay")]
    return [replace(row, **made) for rows in found for row in rows]


def test_parts_of_the_continual_study_add_up_to_a_table_of_all(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    values, path = presets.tree("mini"), Path("reports/continual/runs/frozen/rows.jsonl")
    figures = {}
    for protocol in ("ni-3", "ci-5"):
        write_rows(path, learnt(values, protocol))
        write_text(Path("reports/continual/cka-between.svg"), protocol)
        write_text(Path("reports/continual/cka-between.png"), protocol)
        (folder,) = keep("mini")
        figures[protocol] = {path.name for path in folder.glob("*.*g")}
    assert folder == Path("results/mini/continual")
    both = {"accuracy.svg", "final.svg", "forgetting.svg", "training.svg", "training-loss.svg"}
    assert figures["ni-3"] == both | {"cka-between.svg"}  # no accuracies by task, nor CKA
    assert figures["ci-5"] == both | {"matrix.svg"}  # the other shows this part alone
    table = (folder / "continual.md").read_text()
    assert "| s-digits | ni-3 | frozen | tokens, mlp (flava-nano) | replay | 70.0 [" in table
    assert "| s-digits | ci-5 | frozen | tokens, mlp (flava-nano) | naive | 46.0 [" in table
    values["continual"]["arms"]["frozen-tokens"]["lrs"] = [0.5]
    write_rows(path, learnt(values, "ni-3"))
    with pytest.raises(DataError, match="expected rows of preset mini as it is"):
        keep("mini")


def test_parts_of_several_sets_add_up_in_any_order(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    values, path = presets.tree("mini"), Path("reports/continual/runs/frozen/rows.jsonl")
    data = {"ni-3": "chunks", "ci-5": "classes"}

    def part(*protocols: str, weights: str = "w", **other: str) -> None:
        seen = data | other
        write_rows(
            path,
            [
                replace(row, data=seen[name])
                for name in protocols
                for row in learnt(values, name, weights)
            ],
        )

    part("ni-3", "ci-5")
    keep("mini")
    part("ni-3")
    (folder,) = keep("mini")
    found = read_rows(folder / "runs/frozen/rows.jsonl")
    assert {row.data for row in found} == {"chunks", "classes"}
    part("ci-5", weights="another network")
    with pytest.raises(DataError, match="got others"):
        keep("mini")
    part("ci-5", **{"ci-5": "other images"})
    with pytest.raises(DataError, match="got others"):
        keep("mini")


def test_what_figures_alone_read_is_kept_by_training(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    path = Path("reports/continual/runs/frozen/rows.jsonl")
    rows = learnt(presets.tree("mini"), "ni-3")
    write_rows(path, [row for row in rows if not row.metric.startswith("epoch")])

    def told(protocol: str, loss: float) -> tuple[dict[str, Any], list[Number]]:
        cell = {"stream": "s-digits", "protocol": protocol, "strategy": "naive", "seed": 0}
        cell |= {"features": "tokens", "head": "mlp", "encoder": "flava-nano"}
        return cell, [("train", "epoch_loss", {"experience": 0, "epoch": 0}, loss, 30)]

    drawn, kept = path.with_name("drawn.jsonl"), Path("results/mini/continual")
    keep("mini")
    assert not list(kept.glob("training*"))  # no row of them
    write_drawn(drawn, [told("ni-3", 2.0), told("ci-5", 3.0)])
    keep("mini")
    write_drawn(drawn, [told("ni-3", 1.0)])
    keep("mini")
    found = list(read_drawn(kept / "runs/frozen/drawn.jsonl"))
    assert [(cell["protocol"], at[3]) for cell, at in found] == [("ni-3", 1.0), ("ci-5", 3.0)]
    assert [path.name for path in kept.glob("training*")] == ["training-loss.svg"]


def test_pairs_of_encoders_are_kept_by_training_and_drawn(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    values, report = presets.tree("mini"), Path("reports/continual")

    def run_part(protocol: str) -> None:
        write_rows(report / "runs/frozen/rows.jsonl", learnt(values, protocol))
        cells = [row.cell | {"protocol": protocol} for row in between()]
        pairs = [replace(row, cell=c) for row, c in zip(between(), cells, strict=True)]
        write_rows(report / "between.jsonl", pairs)

    run_part("ci-5")
    (folder,) = keep("mini")
    assert len(read_rows(folder / "between.jsonl")) == len(between())
    first = (folder / "cka-between.svg").read_text()
    run_part("ni-3")
    keep("mini")
    found = read_rows(folder / "between.jsonl")
    assert {row.cell["protocol"] for row in found} == {"ci-5", "ni-3"}
    assert len(found) == 2 * len(between())
    assert len((folder / "cka-between.svg").read_text()) > len(first)  # a panel more
    run_part("rotated-3")
    os.utime(report / "between.jsonl", (0, 0))  # made before these rows
    keep("mini")
    assert read_rows(folder / "between.jsonl") == found


def test_an_encoder_that_was_trained_here_is_kept_beside_its_rows(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, path = presets.tree("mini"), Path("reports/continual/runs/frozen/rows.jsonl")
    _network(Path("data/models/flava-nano"), b"an image network and another")
    image = SimpleNamespace(weights="digest of the image network")
    monkeypatch.setattr("carryover.embed.prepared", lambda entry: image)
    write_rows(path, learnt(values, "ni-3", image.weights))
    (folder,) = keep("mini")
    kept = sorted(path.name for path in (folder / "flava-nano").iterdir())
    assert kept == ["card.json", "weights.safetensors"]
    image.weights = "digest of another"
    with pytest.raises(DataError, match=r"flava-nano: expected the network that .* got digest of "):
        keep("mini")


def test_a_digest_leaves_out_keys_of_every_entry() -> None:
    tree = {"study": {"arms": {"a": {"lr": 1, "runs": [1]}, "b": {"runs": []}}, "runs": 3}}
    without = ("arms.*.runs",)
    before = reader.digest_of(tree, "study", without=without)
    changed = json.loads(json.dumps(tree))
    changed["study"]["arms"]["a"]["runs"] = [2, 3]
    assert reader.digest_of(changed, "study", without=without) == before
    assert reader.digest_of(changed, "study") != reader.digest_of(tree, "study")
    for key, entry in (("runs", 4), ("arms", {"a": {"lr": 2, "runs": [1]}, "b": {"runs": []}})):
        other = {"study": tree["study"] | {key: entry}}
        assert reader.digest_of(other, "study", without=without) != before


def lab_rows(*arms: tuple[str, int | None, str]) -> list[Row]:
    """Handmade rows of the retrieval study, as if preset lab had been run."""
    stage, values = STAGES["retrieval"], presets.tree("lab")
    params = reader.digest_of(values, *stage.sections, without=stage.grid)
    return [
        replace(row, preset="lab", params=params, cell=row.cell | {"dataset": "mnist"})
        for arm in arms
        for row in retrieval_run("perceiver", *arm)
    ]


def test_parts_of_the_retrieval_study_are_kept_by_set_and_decide_claims(checkout: Checkout) -> None:
    shutil.copytree(REPOSITORY / "claims", "claims")
    path, kept = Path("reports/retrieval/runs/perceiver/rows.jsonl"), Path("results/lab/retrieval")
    write_rows(path, lab_rows(("none", None, "none"), ("knn", 10, "none")))
    write_text(Path("reports/retrieval/retrieval.md"), "steps")
    assert keep("lab") == [kept / "mnist"]
    assert (kept / "mnist/retrieval.md").read_text() == "steps"
    write_rows(path, lab_rows(("knn", 10, "zeros")))
    keep("lab")
    assert not (kept / "mnist/retrieval.md").exists()  # told of two arms, three are kept
    found = read_rows(kept / "mnist/runs/perceiver/rows.jsonl")
    assert {row.cell["control"] for row in found} == {"none", "zeros"}
    assert len({json.dumps(row.cell) + row.metric for row in found}) == len(found)

    told = {
        entry.claim.id: entry.decision
        for entry in verify(Path(), "retrieval")
        if entry.evidence == "lab"
    }
    clean = told["retrieval-r1-clean"]  # 240 steps against 40 in each seed
    assert clean.verdict != "not run"
    assert clean.value == 6.0
    assert told["retrieval-r7"].value == 6.0  # memory of zeros: 240 too
    assert told["retrieval-r3"].verdict == "not run"  # of ResNet-18
