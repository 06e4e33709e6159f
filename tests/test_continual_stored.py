"""The continual study on stored embeddings, and on a set that says its images' domains."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from carryover import continual_start
from carryover.config import params as config
from carryover.models.encoders import Encoder
from carryover.models.preprocess import Preprocess
from carryover.stages import PARAMS, run_stage
from conftest import Checkout
from image_files import encoded, picture, write_parquet
from test_continual import only, rows_of

PLAIN = Preprocess(8, "squash", "bicubic", (), ())
CPU = torch.device("cpu")
DOMAINS = ("photo", "art painting", "cartoon", "sketch")
CLASSES = ("dog", "elephant", "giraffe")


# --- stored embeddings ---------------------------------------------------------------------------


def test_equal_batches_are_encoded_to_equal_bits(embedded: Checkout) -> None:
    only(embedded, "chunks", strategies=["naive"])
    stored = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
    embedded.edit(**{"continual.bank": False})
    again = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
    batch = config.read(PARAMS).encoders["clip-nano"].batch_size
    for place, inputs in stored.inputs.items():
        train = int((~stored.pools[place[:2]].test).sum())  # the bank's batches are a split's own
        assert train > batch
        for rows in torch.arange(train).split(batch):
            assert torch.equal(inputs(rows), again.inputs[place](rows))


def test_tokens_in_bfloat16_cost_no_accuracy_to_speak_of(embedded: Checkout) -> None:
    only(embedded, "chunks", strategies=["naive"], epochs=3, lrs=[0.1])
    run_stage("continual", "frozen")
    exact = rows_of("frozen")
    embedded.edit(**{"encoders.clip-nano.tokens": "bfloat16"})
    run_stage("embed", "clip-nano")
    run_stage("continual", "frozen")
    pairs = [
        (one.value, other.value)
        for one, other in zip(exact, rows_of("frozen"), strict=True)
        if one.metric == "accuracy"
    ]
    assert max(one for one, _ in pairs) > 0.3  # of ten classes
    for one, other in pairs:
        assert one == pytest.approx(other, abs=0.005)


def test_tokens_of_grey_pixels_rescaled_twice_are_stored_as_exactly_as_encoded_anew(
    embedded: Checkout,
) -> None:
    """Such images are nearly constant: what tells them apart is lost in bfloat16."""
    only(embedded, "chunks", strategies=["naive"], epochs=3, lrs=[0.1])
    embedded.edit(**{f"encoders.clip-nano.{key}": True for key in ("grey", "rescale_twice")})
    found, ends = {}, {}
    for how in ("float32", "bfloat16", "anew"):
        if how == "anew":
            embedded.edit(**{"continual.bank": False})
        else:
            embedded.edit(**{"encoders.clip-nano.tokens": how})
            run_stage("embed", "clip-nano")
        start = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
        found[how] = start.inputs["s-digits", "", "clip-nano", "tokens"](torch.arange(0, 500, 5))
        run_stage("continual", "frozen")
        ends[how] = [row.value for row in rows_of("frozen") if row.metric == "accuracy"]
    torch.testing.assert_close(found["float32"], found["anew"], rtol=0, atol=1e-5)
    assert ends["float32"] == pytest.approx(ends["anew"], abs=1e-3)
    between = found["anew"].std(0).mean()
    assert (found["bfloat16"] - found["anew"]).abs().mean() > 0.1 * between


def test_a_frozen_encoder_is_let_go_once_its_embeddings_are_read(
    embedded: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(embedded, "chunks", "turned", strategies=["naive"])  # one of them embeds pixels anew
    made: list[weakref.ref[nn.Module]] = []
    loads = continual_start.load_encoder

    def watched(*given: Any) -> Encoder:
        encoder = loads(*given)
        made.extend(weakref.ref(module) for module in (encoder.image, encoder.model))
        return encoder

    monkeypatch.setattr(continual_start, "load_encoder", watched)
    start = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
    gc.collect()
    assert [module() for module in made] == [None, None]
    assert (
        start.encoders["clip-nano"].weights == loads(config.read(PARAMS), "clip-nano", CPU).weights
    )
    embedded.edit(**{"continual.bank": False})
    again = continual_start.load_start(config.read(PARAMS), "frozen", CPU)
    assert made[2]() is again.encoders["clip-nano"].image


def test_the_classifier_of_an_encoder_that_is_let_go_stays() -> None:
    image, head = nn.Linear(2, 2), nn.Linear(2, 3)
    model = nn.Sequential(OrderedDict(image=image, head=head))
    whole = Encoder("x", image, PLAIN, {}, ("cls",), "digest", None, 1.0, model)
    left = continual_start._facts(whole)
    assert left.model.get_submodule("head") is head
    assert [*left.model.parameters()] == [*head.parameters()]
    assert [*continual_start._facts(replace(whole, model=image)).model.parameters()] == []


# --- domains of a set ----------------------------------------------------------------------------


@pytest.fixture
def pacs(embedded: Checkout) -> Checkout:
    """A stream of four domains, three classes each, in a Parquet file with column ``domain``."""
    images, labels, names, domains, splits = [], [], [], [], []
    for d, domain in enumerate(DOMAINS):
        for k, name in enumerate(CLASSES):
            for i in range(8):
                images.append(encoded(picture(1000 * d + 100 * k + i, "RGB", (40, 32))))
                labels.append(k)
                names.append(name)
                domains.append(domain)
                splits.append("train" if i < 6 else "test")
    columns = {"class_name": names, "domain": domains, "split": splits}
    write_parquet(embedded.root / "pacs.parquet", images, labels, **columns)
    tree = embedded.tree()
    protocol = tree["continual"]["protocols"]["ni-2"] | {"kind": "domains", "experiences": 4}
    embedded.edit(
        **{
            "data.names": [*tree["data"]["names"], "pacs"],
            "data.sources": {"pacs": "parquet:pacs.parquet"},
            "encoders.clip-nano.datasets": ["digits", "letters", "pacs"],
            "continual.streams": {"s-digits": ["digits"], "s-pacs": ["pacs"]},
            "continual.cka.images": 24,
            "continual.protocols": tree["continual"]["protocols"] | {"domains-4": protocol},
        }
    )
    run_stage("data", "pacs")
    run_stage("embed", "clip-nano")
    return embedded


def test_domains_of_a_set_are_a_stream_for_frozen_and_unfrozen_encoders(pacs: Checkout) -> None:
    here = {"streams": ["s-pacs"], "protocols": ["domains-4"], "strategies": ["naive", "joint"]}
    only(pacs, "chunks", "logits", features="tokens", head="mlp", **here)
    for item in ("frozen", "unfrozen"):
        run_stage("continual", item)
        cells = [row for row in rows_of(item) if row.cell.get("stream") == "s-pacs"]
        assert cells
        tested = [row for row in cells if row.metric == "task_accuracy"]
        assert {row.cell["task"] for row in tested} == {0, 1, 2, 3}
        assert {row.n for row in tested} == {6}  # test images of a domain
        averaged = [row for row in cells if row.metric == "average_accuracy"]
        assert {row.cell["strategy"] for row in averaged} == {"naive", "joint"}
