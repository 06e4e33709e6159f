from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from carryover import bank, bank_files, bank_out
from carryover.data.images import Encoded, Images
from carryover.errors import ConfigError, DataError, KitError
from carryover.files import write_json
from carryover.models.encoders import Encoder, features
from carryover.models.features import Feature
from image_files import encoded, picture
from tiny_clip import clip, noise

CPU = torch.device("cpu")
END, INNER, TOKENS = Feature("projected"), Feature("pooled", "block0"), Feature("tokens")


class Counted:
    """`bank.embed` on one small setting, with the images that it computed."""

    def __init__(self, root: Path) -> None:
        self.root, self.rows = root, 0

    def __call__(
        self, encoder: Encoder, images: Images, *wanted: Feature, **changes: Any
    ) -> dict[Feature, bank.Embeddings]:
        self.rows = 0

        def advance(rows: int) -> None:
            self.rows += rows

        settings: dict[str, Any] = {"precision": "float32", "batch_size": 4, "shard_rows": 10}
        settings |= changes
        return bank.embed(
            encoder, images, wanted, root=self.root, device=CPU, advance=advance, **settings
        )


@pytest.fixture
def embed(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


def bare(encoder: Encoder, images: Images, feature: Feature, size: int = 4) -> Tensor:
    """The feature by nothing but forward passes."""
    found = []
    with torch.no_grad():
        for start in range(0, len(images), size):
            index = torch.arange(start, min(start + size, len(images)))
            x = images.floats(index).expand(-1, 3, -1, -1)
            found.append(features(encoder, x, [feature])[feature])
    return torch.cat(found)


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` gives in a forked process; its exit code when it ends without a result."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(work()))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        process.join()
        return process.exitcode
    finally:
        process.join()


def files(root: Path) -> list[Path]:
    return sorted(root.rglob("*.safetensors"))


# --- values ------------------------------------------------------------------------------------


def test_float32_values_are_those_of_a_bare_forward_pass_bit_for_bit(embed: Counted) -> None:
    encoder, images = clip(), noise(22)
    found = embed(encoder, images, END, INNER, TOKENS)
    assert torch.equal(found[END].values, bare(encoder, images, END))
    assert torch.equal(found[INNER].values, bare(encoder, images, INNER))
    assert torch.equal(found[TOKENS].values, bare(encoder, images, TOKENS).bfloat16())
    assert (found[END].values.shape, found[TOKENS].values.shape) == ((22, 12), (22, 5, 16))
    assert [len(shard) for shard in found[END].shards] == [8, 8, 6]  # 10 rows are 2 batches of 4
    assert (found[END].ids.tolist(), found[END].data) == (images.ids.tolist(), images.digest)
    assert found[END].encoder == encoder.weights
    assert embed.rows == 22


def test_a_second_call_computes_nothing_and_gives_the_same(embed: Counted) -> None:
    encoder, images = clip(), noise()
    first = embed(encoder, images, END)[END]
    again = embed(clip(), noise(), END)[END]
    assert embed.rows == 0
    assert torch.equal(again.values, first.values)
    assert again.key == first.key


def test_bfloat16_runs_the_network_under_autocast(embed: Counted) -> None:
    encoder, images = clip(), noise()
    found = embed(encoder, images, END, precision="bfloat16")[END].values
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(found, bare(encoder, images, END).float())
    assert not torch.equal(found, embed(encoder, images, END)[END].values)


def test_only_a_missing_layer_is_computed(embed: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, images = clip(), noise()
    embed(encoder, images, END)
    before = {path: path.stat().st_ino for path in files(embed.root)}
    asked = []

    def recorded(encoder: Encoder, x: Tensor, wanted: list[Feature]) -> dict[Feature, Tensor]:
        asked.append(wanted)
        return features(encoder, x, wanted)

    monkeypatch.setattr(bank, "features", recorded)
    found = embed(encoder, images, END, INNER, TOKENS, INNER)
    assert asked == [[INNER, TOKENS]] * 6  # one forward pass a batch for both
    assert list(found) == [END, INNER, TOKENS]
    assert {path: path.stat().st_ino for path in before} == before


def test_images_of_several_sizes_are_preprocessed_one_by_one(embed: Counted) -> None:
    kinds = [("RGB", (20, 31)), ("L", (9, 9)), ("RGB", (40, 16)), ("L", (17, 30))]
    blobs = [encoded(picture(i, mode, size)) for i, (mode, size) in enumerate(kinds)]
    ends = torch.tensor([len(blob) for blob in blobs]).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    spans = torch.stack([torch.zeros(4, dtype=torch.int64), starts, ends], 1)
    blob = torch.frombuffer(bytearray(b"".join(blobs)), dtype=torch.uint8)
    images = replace(noise(4), pixels=Encoded((blob,), spans, 3), digest="mixed")
    encoder = clip()
    shorter = replace(encoder, preprocess=replace(encoder.preprocess, shorter=20))
    found = embed(shorter, images, END)[END].values
    ready = [shorter.preprocess(images.image(row)[None].float() / 255) for row in range(4)]
    with torch.no_grad():
        assert torch.equal(found, shorter.image(torch.cat(ready)))


# --- freshness ---------------------------------------------------------------------------------


def changed_weight(encoder: Encoder) -> None:
    with torch.no_grad():
        next(encoder.image.parameters()).view(-1)[0] += 1e-6


def changed_setting(encoder: Encoder) -> None:
    encoder.image.get_submodule("ln_post").eps = 1e-3


@pytest.mark.parametrize("change", [changed_weight, changed_setting])
def test_a_network_changed_in_place_is_never_taken_for_the_old_one(
    embed: Counted, change: Callable[[Encoder], None]
) -> None:
    encoder, images = clip(), noise()
    old = embed(encoder, images, END)[END].key
    change(encoder)
    new = embed(encoder, images, END)[END]
    assert (embed.rows, new.key != old) == (len(images), True)
    assert torch.equal(new.values, bare(encoder, images, END))


@pytest.mark.parametrize(
    "changes",
    [
        {"resize": "squash"},
        {"interpolation": "bilinear"},
        {"mean": (0.5, 0.5, 0.4)},
        {"mean": (), "std": ()},
    ],
)
def test_another_preprocessing_is_computed_again(embed: Counted, changes: dict[str, Any]) -> None:
    encoder, images = clip(), noise(channels=3)
    old = embed(encoder, images, END)[END].key
    changes = {"size": 16} | changes
    other = replace(encoder, preprocess=replace(encoder.preprocess, **changes))
    assert embed(other, images, END)[END].key != old
    assert embed.rows == len(images)


def test_another_image_order_precision_layer_or_batch_is_computed_again(embed: Counted) -> None:
    encoder, images = clip(), noise()
    keys = {embed(encoder, images, END)[END].key}
    pixels = images.pixels.clone() if isinstance(images.pixels, Tensor) else None
    assert pixels is not None
    pixels[7, 0, 3, 3] ^= 1
    one = replace(images, pixels=pixels)
    turned = images.select(torch.arange(len(images)).flip(0))
    for other, feature, settings in (
        (replace(one, digest=one.rows_digest()), END, {}),
        (turned, END, {}),
        (images, END, {"precision": "bfloat16"}),
        (images, Feature("cls"), {}),
        (images, Feature("pooled", "block1"), {}),
        (images, INNER, {}),
        (images, END, {"batch_size": 5}),
    ):
        found = embed(encoder, other, feature, **settings)[feature]
        assert embed.rows == len(images)
        assert found.key not in keys
        keys.add(found.key)
    found = embed(encoder, turned, END)[END]  # other batches: other last bits
    assert torch.allclose(found.values.flip(0), bare(encoder, images, END), atol=1e-5)
    assert len(keys) == 8


def test_other_library_versions_threads_or_code_give_other_keys(
    embed: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    import open_clip

    encoder, images = clip(), noise(4)
    keys = [embed(encoder, images, END)[END].key]
    with monkeypatch.context() as patch:
        patch.setattr(open_clip, "__version__", "0")
        keys.append(embed(encoder, images, END)[END].key)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        keys.append(embed(encoder, images, END)[END].key)
    with monkeypatch.context() as patch:
        patch.setattr("carryover.bank_key._code", lambda: "edited")
        keys.append(embed(encoder, images, END)[END].key)
    assert len(set(keys)) == 4
    assert embed(encoder, images, END)[END].key == keys[0]


# --- damage ------------------------------------------------------------------------------------


def test_every_flipped_byte_of_a_file_is_found(tmp_path: Path) -> None:
    path, about = tmp_path / "a.safetensors", {"key": "k"}
    with bank_files.written(path, {"x": (torch.float32, (3, 2))}, about) as stream:
        stream.add(torch.arange(6.0).view(3, 2))
    assert torch.equal(bank_files.opened(path, about)["x"], load_file(path)["x"])
    whole, caught = path.read_bytes(), 0
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1 << place % 8
        path.write_bytes(altered)
        with pytest.raises(ValueError, match=r"."):
            bank_files.opened(path, about)
        caught += 1
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="digest"):
        bank_files.opened(path, about)
    assert caught == len(whole) > 150


def test_a_damaged_shard_is_computed_again_and_told(
    embed: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, images = clip(), noise()
    embed(encoder, images, END)
    path = files(embed.root)[1]
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)
    found = embed(encoder, images, END)[END]
    assert embed.rows == 8
    assert torch.equal(found.values, bare(encoder, images, END))
    told = capsys.readouterr().err
    assert f"{path}: expected the bytes that were written, got others" in told
    assert "computed again" in told


def test_a_shard_of_another_key_or_place_is_not_taken(embed: Counted) -> None:
    encoder, images = clip(), noise()
    embed(encoder, images, END)
    first, second, _ = files(embed.root)
    shutil.copy(first, second)
    found = embed(encoder, images, END)[END]
    assert embed.rows == 8
    assert torch.equal(found.values, bare(encoder, images, END))


def test_a_killed_run_loses_one_shard_at_most(embed: Counted) -> None:
    encoder, images = clip(), noise()
    batches = 0

    def dies(rows: int) -> None:
        nonlocal batches
        batches += 1
        if batches == 4:  # in the second shard, all its rows written, the file not yet moved
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        bank.embed(
            encoder,
            images,
            [END, TOKENS],
            root=embed.root,
            precision="float32",
            batch_size=4,
            device=CPU,
            shard_rows=8,
            advance=dies,
        )

    assert in_child(work) == -signal.SIGKILL
    assert [path.name for path in files(embed.root)].count("00000.safetensors") == 2
    left = [p for p in embed.root.rglob(".*") if p.suffix != ".lock"]
    assert len(left) == 2  # what it was writing
    found = embed(encoder, images, END, TOKENS, shard_rows=8)
    assert embed.rows == len(images) - 8
    assert torch.equal(found[END].values, bare(encoder, images, END))
    assert [p for p in embed.root.rglob(".*") if p.suffix != ".lock"] == []


@pytest.mark.parametrize("equal", [True, False])
def test_two_writers_at_once_share_one_whole_bank(tmp_path: Path, equal: bool) -> None:
    encoder, images = clip(), noise(60)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(2)
    results: Any = context.Queue()

    def work(wanted: list[Feature]) -> None:
        counted = Counted(tmp_path)
        together.wait()
        found = counted(encoder, images, *wanted, shard_rows=4)
        results.put((counted.rows, {f: e.values.float().tolist() for f, e in found.items()}))

    lists = [[END, INNER]] * 2 if equal else [[END, INNER], [INNER, END, TOKENS]]
    running = [context.Process(target=work, args=(wanted,)) for wanted in lists]
    for process in running:
        process.start()
    found = [results.get(timeout=60) for _ in running]
    for process in running:
        process.join()
    if equal:  # one computes, the other waits
        assert sum(rows for rows, _ in found) == len(images)
    for _, values in found:
        assert torch.equal(torch.tensor(values[END]), bare(encoder, images, END))
        assert torch.equal(torch.tensor(values[INNER]), bare(encoder, images, INNER))
    again = Counted(tmp_path)
    again(encoder, images, *lists[1], shard_rows=4)
    assert (again.rows, len(files(tmp_path))) == (0, 15 * len(lists[1]))


def test_all_tokens_go_to_the_disk_batch_by_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, images = clip(), noise(2000)
    tokens = torch.randn(50, 128, 256)  # 131 MB in bfloat16 for all images
    monkeypatch.setattr(bank, "features", lambda *_: {TOKENS: tokens})

    def work() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counted = Counted(tmp_path)
        counted(encoder, images, TOKENS, batch_size=50, shard_rows=1000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert in_child(work) < 80_000  # kB
    assert sum(path.stat().st_size for path in files(tmp_path)) > 131e6


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "bank").write_text("a file")
    with pytest.raises(KitError, match=r"bank.*expected to write this file"):
        Counted(tmp_path / "bank")(clip(), noise(4), END)


# --- text --------------------------------------------------------------------------------------


def test_prompts_are_cached_by_the_text_network_alone(tmp_path: Path) -> None:
    encoder, calls = clip(), 0
    assert encoder.text is not None
    encode, text = encoder.text.encode, encoder.text

    def counted(tokens: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return encode(tokens)

    encoder = replace(encoder, text=replace(text, encode=counted))

    def embedded(encoder: Encoder, *prompts: str, precision: Any = "float32") -> Tensor:
        return bank.text_embeddings(encoder, prompts, root=tmp_path, precision=precision)

    first = embedded(encoder, "zero", "one")
    with torch.no_grad():
        assert torch.equal(first, encode(text.tokenize(["zero", "one"])))
    assert torch.equal(embedded(encoder, "zero", "one"), first)
    changed_weight(encoder)  # of the image network: no matter
    embedded(encoder, "zero", "one")
    assert calls == 1
    embedded(encoder, "one", "zero")
    embedded(encoder, "zero", "one", precision="bfloat16")
    embedded(replace(encoder, text=replace(encoder.text, digest="other")), "zero", "one")
    with torch.no_grad():
        encoder.model.get_parameter("text_projection").mul_(2)
    assert torch.allclose(embedded(encoder, "zero", "one"), 2 * first)
    assert calls == 5


def test_an_encoder_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tiny: expected an encoder with text"):
        bank.text_embeddings(
            replace(clip(), text=None), ["zero"], root=tmp_path, precision="float32"
        )


# --- the folder for studies --------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two features of one split, and prompts, as the stage writes them."""
    encoder, images = clip(), noise()
    found = Counted(tmp_path / "bank")(encoder, images, TOKENS, END, INNER)
    folder = tmp_path / "tiny"
    facts: dict[str, Any] = {
        "weights": encoder.weights,
        "preprocess": encoder.preprocess.digest(),
        "datasets": {
            "noise": {
                "splits": {"train": bank_out.write_split(folder / "noise", "train", found)},
                "text": bank_out.write_text(folder / "noise", torch.eye(3)[:, None]),
            },
            "plain": {"splits": {}, "text": None},
        },
    }
    facts["digest"] = bank_out.manifest_digest(facts)
    write_json(folder / "manifest.json", facts)
    return folder


def test_a_folder_gives_back_what_the_bank_holds(out: Path) -> None:
    encoder, images = clip(), noise()
    found = {f: bank_out.read(out, "noise", "train", f) for f in (END, INNER, TOKENS)}
    assert torch.equal(found[END].values, bare(encoder, images, END))
    assert torch.equal(found[INNER].values, bare(encoder, images, INNER))
    assert torch.equal(found[TOKENS].values, bare(encoder, images, TOKENS).bfloat16())
    assert torch.equal(found[END].labels, images.labels)
    assert torch.equal(found[END].ids, images.ids)
    assert (found[END].data, found[END].encoder) == (images.digest, encoder.weights)
    assert len({one.key for one in found.values()}) == 3
    assert torch.equal(bank_out.read_text(out, "noise"), torch.eye(3)[:, None])


@pytest.mark.parametrize("name", ["noise/train.safetensors", "noise/text.safetensors"])
def test_a_flipped_byte_of_a_folder_is_refused(out: Path, name: str) -> None:
    content = bytearray((out / name).read_bytes())
    content[-1] ^= 1
    (out / name).write_bytes(content)

    def read() -> Any:
        if "text" in name:
            return bank_out.read_text(out, "noise")
        return bank_out.read(out, "noise", "train", END)

    with pytest.raises(DataError, match=rf"{name}.*dvc repro -f embed@tiny"):
        read()


def test_an_altered_manifest_is_refused(out: Path) -> None:
    path = out / "manifest.json"
    path.write_text(path.read_text().replace('"plain"', '"other"'))
    with pytest.raises(DataError, match=r"manifest.json: expected the bytes that were written"):
        bank_out.manifest(out)


def test_what_is_not_embedded_is_named_with_what_is(out: Path, tmp_path: Path) -> None:
    for dataset, split, feature, message in (
        ("digits", "train", END, "data set among noise, plain, got 'digits'"),
        ("noise", "test", END, "split among train, got test"),
        ("noise", "train", Feature("cls"), "feature among .*block0/pooled, .*got cls"),
    ):
        with pytest.raises(DataError, match=message):
            bank_out.read(out, dataset, split, feature)
    with pytest.raises(DataError, match="has no text network"):
        bank_out.read_text(out, "plain")
    with pytest.raises(DataError, match="dvc repro embed@absent"):
        bank_out.manifest(tmp_path / "absent")


def test_tokens_are_kept_in_the_type_asked_for_under_a_key_of_their_own(embed: Counted) -> None:
    encoder, images = clip(), noise()
    half = embed(encoder, images, TOKENS, END)
    full = embed(encoder, images, TOKENS, END, tokens="float32")
    assert half[TOKENS].values.dtype == torch.bfloat16
    assert torch.equal(full[TOKENS].values, bare(encoder, images, TOKENS))
    assert half[TOKENS].key != full[TOKENS].key
    assert half[END].key == full[END].key


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_embeddings_that_are_not_finite_are_refused_and_not_stored(
    embed: Counted, value: float
) -> None:
    encoder, images = clip(), noise(10)
    images = replace(images, ids=torch.arange(100, 110))
    with torch.no_grad():
        encoder.image.get_parameter("proj")[0, 0] = value
    said = rf"^{encoder.name}: .*nan or inf in projected of image 100; take weights of before"
    with pytest.raises(DataError, match=said):
        embed(encoder, images, INNER, END)
    assert not files(embed.root)
    assert not list(embed.root.rglob("*.safetensors.*"))


def test_prompts_whose_embeddings_are_not_finite_are_refused(tmp_path: Path) -> None:
    encoder = clip()
    assert encoder.text is not None
    broken = replace(encoder.text, encode=lambda ids: torch.full((len(ids), 12), torch.nan))
    with pytest.raises(DataError, match=r"expected finite embeddings, got nan or inf of 'a cat'"):
        bank.text_embeddings(
            replace(encoder, text=broken), ["a cat"], root=tmp_path, precision="float32"
        )
    assert not files(tmp_path)
