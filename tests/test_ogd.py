"""Orthogonal gradient descent: bases, projected updates, and the released code's version."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from carryover.adapt import ogd_published
from carryover.adapt.ogd import Basis, Projection, gradients_of, load, save
from carryover.adapt.ogd_published import StaleProjection, convert, extended, protected
from carryover.errors import ConfigError, DataError
from carryover.models import weights
from carryover.train import Budget, fit
from tiny_clip import clip

ROOT = Path(__file__).parents[1]

SCOPES = ("joint", "tensor")
SHAPES = {"a": (3, 4), "b": (5,)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vectors(seed: int = 0) -> dict[str, Tensor]:
    draw = seeded(seed)
    return {name: torch.randn(shape, generator=draw) for name, shape in SHAPES.items()}


def gradients(count: int, seed: int = 0) -> dict[str, Tensor]:
    rows = [vectors(100 * seed + i) for i in range(count)]
    return {name: torch.stack([row[name].flatten() for row in rows]) for name in SHAPES}


def basis_of(scope: Any, *found: dict[str, Tensor], **limits: Any) -> Basis:
    basis = Basis(scope)
    for rows in found:
        basis.add_(rows, **limits)
    return basis


def flat(parts: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts.values()])


def blocks(basis: Basis) -> list[Tensor]:
    """Directions as matrices that are orthonormal one by one."""
    found = list(basis.directions.values())
    return [torch.cat(found, dim=1)] if basis.scope == "joint" else found


@pytest.mark.parametrize("scope", SCOPES)
def test_the_union_of_two_tasks_is_orthonormal_and_spans_both(scope: str) -> None:
    first, second = gradients(2, 1), gradients(2, 2)
    basis = basis_of(scope, first, second)
    assert len(basis) == (4 if scope == "joint" else 8)
    for rows in blocks(basis):
        torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-6, rtol=0.0)
    for task in (first, second):
        for i in range(2):
            one = {name: rows[i] for name, rows in task.items()}
            assert float(flat(basis.project(one)).norm()) < 1e-6 * float(flat(one).norm())


def test_what_a_basis_holds_adds_nothing_to_it() -> None:
    rows = gradients(3)
    basis = basis_of("joint", rows)
    before = {name: tensor.clone() for name, tensor in basis.directions.items()}
    basis.add_({name: 2 * tensor + tensor.flip(0) for name, tensor in rows.items()})
    basis.add_({name: torch.zeros_like(tensor) for name, tensor in rows.items()})
    assert all(torch.equal(basis.directions[name], before[name]) for name in before)


@pytest.mark.parametrize("difference", [1e-2, 1e-3, 1e-4])
def test_gradients_that_are_nearly_parallel_still_give_orthonormal_directions(
    difference: float,
) -> None:
    draw = seeded()
    common = torch.randn(200, generator=draw)
    rows = common + difference * torch.randn(6, 200, generator=draw)
    basis = basis_of("joint", {"a": rows[:3]}, {"a": rows[3:]})
    assert len(basis) == 6
    found = basis.directions["a"]
    torch.testing.assert_close(found @ found.T, torch.eye(6), atol=1e-6, rtol=0.0)
    rest = basis.project({"a": rows[5] - rows[0]})["a"]
    assert float(rest.norm()) < 1e-2 * float((rows[5] - rows[0]).norm())


def test_a_basis_ends_where_the_space_ends() -> None:
    basis = basis_of("tensor", gradients(9))
    assert [len(rows) for rows in basis.directions.values()] == [9, 5]
    rest = basis.project(vectors(50))
    assert float(rest["b"].norm()) < 1e-6  # 5 numbers and 9 gradients: it stands still
    assert float(rest["a"].norm()) > 0.1


def test_a_projection_by_hand() -> None:
    basis = basis_of("joint", {"a": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([[4.0]])})
    found = basis.project({"a": torch.tensor([5.0, 7.0]), "b": torch.tensor([0.0])})
    # direction (0.6, 0, 0.8), coefficient 3
    torch.testing.assert_close(found["a"], torch.tensor([3.2, 7.0]))
    torch.testing.assert_close(found["b"], torch.tensor([-2.4]))
    apart = basis_of("tensor", {"a": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([[4.0]])})
    found = apart.project({"a": torch.tensor([5.0, 7.0]), "b": torch.tensor([2.0])})
    torch.testing.assert_close(found["a"], torch.tensor([0.0, 7.0]))
    torch.testing.assert_close(found["b"], torch.tensor([0.0]))


@pytest.mark.parametrize("scope", SCOPES)
def test_projections_are_orthogonal_and_projecting_twice_is_projecting_once(scope: str) -> None:
    basis = basis_of(scope, gradients(3, 1), gradients(1, 2))
    once = basis.project(vectors(9))
    stored = {name: rows[:1] for name, rows in gradients(3, 1).items()}
    inner = sum(float(stored[name][0] @ once[name].flatten()) for name in once)
    assert abs(inner) < 1e-6
    torch.testing.assert_close(basis.project(once), once, atol=1e-6, rtol=0.0)
    assert {name: part.shape for name, part in once.items()} == SHAPES


def test_energy_keeps_the_fewest_directions_that_hold_it() -> None:
    rows = torch.diag(torch.tensor([3.0, 2.0, 1.0]))  # squared: 9, 4, 1 of 14
    for energy, count in ((0.5, 1), (0.7, 2), (0.9, 2), (0.95, 3), (1.0, 3)):
        assert len(basis_of("joint", {"a": rows}, energy=energy)) == count
    assert len(basis_of("joint", {"a": rows}, rank=2)) == 2
    held = basis_of("joint", {"a": rows[:1]})
    held.add_({"a": rows}, energy=0.6)  # 9 of 14 it has already
    assert len(held) == 1
    held.add_({"a": rows}, energy=0.7)
    torch.testing.assert_close(held.directions["a"].abs(), torch.eye(3)[:2])


class Network:
    """A tiny CLIP that classifies images by four sentences, all but the scale training."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.model = clip().model.to(dtype)
        self.model.logit_scale.requires_grad_(False)
        named = self.model.named_parameters()
        self.parameters = {name: p for name, p in named if p.requires_grad}
        self.tokens = torch.tensor([[62, i + 1, i + 2, 63, 0, 0, 0, 0] for i in range(4)])
        draw = seeded(1)
        self.old = torch.rand(3, 3, 16, 16, generator=draw, dtype=dtype)
        self.new = torch.rand(8, 3, 16, 16, generator=draw, dtype=dtype)
        self.labels = torch.tensor([0, 1, 2])

    def logits(self, images: Tensor) -> Tensor:
        image, text, scale = self.model(images, self.tokens)
        return scale * image @ text.T

    def gradients(self, what: str = "all-logits") -> dict[str, Tensor]:
        return gradients_of(what, self.logits, self.parameters, self.old, self.labels)

    def fit(
        self,
        updates: int,
        edit_gradient: Callable[[], None] | None = None,
        after_step: Callable[[int], None] | None = None,
    ) -> None:
        fit(
            self.model,
            self.new,
            torch.arange(8) % 4,
            torch.optim.AdamW(self.parameters.values(), lr=1e-3, weight_decay=0.1),
            Budget(8, updates, 0, 0, 0, "on_stop"),
            seeded(),
            loss=lambda _, x, y: nn.functional.cross_entropy(self.logits(x), y),
            edit_gradient=edit_gradient,
            after_step=after_step,
        )


def test_gradients_of_logits_by_kind() -> None:
    network = Network()
    every = network.gradients("all-logits")
    assert {name: rows.shape for name, rows in every.items()} == {
        name: (12, p.numel()) for name, p in network.parameters.items()
    }
    label, mean, loss = (network.gradients(x) for x in ("label-logit", "mean-logit", "loss"))
    shares = network.logits(network.old).detach().softmax(dim=1)
    shares[range(3), range(3)] -= 1
    for name, rows in every.items():
        by_image = rows.unflatten(0, (3, 4))
        torch.testing.assert_close(label[name], by_image[range(3), range(3)])
        torch.testing.assert_close(mean[name], by_image.mean(dim=1), atol=1e-5, rtol=1e-4)
        expected = torch.einsum("bc,bcv->bv", shares, by_image)  # the loss is in their span
        torch.testing.assert_close(loss[name], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scope", SCOPES)
def test_old_logits_are_unchanged_to_first_order(scope: str) -> None:
    network = Network(torch.float64)
    basis = basis_of(scope, network.gradients())
    draw = seeded(5)
    step = {
        name: torch.randn(p.shape, generator=draw, dtype=torch.float64)
        for name, p in network.parameters.items()
    }

    def change(update: dict[str, Tensor], size: float) -> float:
        with torch.no_grad():
            before = network.logits(network.old)
            for name, p in network.parameters.items():
                p += size * update[name]
            after = network.logits(network.old)
            for name, p in network.parameters.items():
                p -= size * update[name]
        return float((after - before).abs().max())

    kept = basis.project(step)
    assert change(step, 1e-4) / change(step, 1e-5) == pytest.approx(10, rel=0.2)
    assert change(kept, 1e-4) / change(kept, 1e-5) == pytest.approx(100, rel=0.2)
    assert change(kept, 1e-5) < 0.01 * change(step, 1e-5)


@pytest.mark.parametrize("scope", SCOPES)
def test_every_step_of_adamw_is_orthogonal_to_the_basis(scope: str) -> None:
    network = Network()
    basis = basis_of(scope, network.gradients("label-logit"))
    seams = Projection(basis, network.parameters)
    starts = [{name: p.detach().clone() for name, p in network.parameters.items()}]

    def after_step(updates: int) -> None:
        seams.after_step(updates)
        starts.append({name: p.detach().clone() for name, p in network.parameters.items()})

    network.fit(4, seams.edit_gradient, after_step)
    for before, after in pairwise(starts):
        step = {name: after[name] - before[name] for name in after}
        assert float(flat(step).norm()) > 1e-3
        inside = {name: basis.directions[name] @ part.flatten() for name, part in step.items()}
        shares = [sum(inside.values())] if scope == "joint" else list(inside.values())
        assert max(float(share.abs().max()) for share in shares) < 1e-6


def test_adamw_leaves_the_space_where_the_gradient_alone_is_projected() -> None:
    network = Network()
    basis = basis_of("joint", network.gradients("label-logit"))
    before = {name: p.detach().clone() for name, p in network.parameters.items()}
    network.fit(1, Projection(basis, network.parameters).edit_gradient)
    step = {name: p.detach() - before[name] for name, p in network.parameters.items()}
    inside = sum(basis.directions[name] @ part.flatten() for name, part in step.items())
    assert float(torch.as_tensor(inside).abs().max()) > 1e-3


def test_a_projected_task_forgets_less_than_a_free_one() -> None:
    changes = {}
    for protect in (False, True):
        network = Network()
        before = network.logits(network.old).detach()
        basis = basis_of("joint", *([network.gradients()] if protect else []))
        seams = Projection(basis, network.parameters)
        network.fit(3, seams.edit_gradient, seams.after_step)
        changes[protect] = float((network.logits(network.old).detach() - before).abs().max())
    assert 0 < changes[True] < changes[False]


@pytest.mark.parametrize("scope", SCOPES)
def test_an_empty_basis_changes_nothing(scope: Any) -> None:
    plain, edited = Network(), Network()
    plain.fit(3)
    seams = Projection(Basis(scope), edited.parameters)
    edited.fit(3, seams.edit_gradient, seams.after_step)
    for name, p in plain.parameters.items():
        assert torch.equal(p, edited.parameters[name]), name


def test_a_tensor_without_a_gradient_counts_as_zero() -> None:
    basis = basis_of("joint", {"a": torch.tensor([[3.0]]), "b": torch.tensor([[4.0]])})
    parameters = {name: nn.Parameter(torch.zeros(1)) for name in "ab"}
    parameters["a"].grad = torch.tensor([5.0])
    Projection(basis, parameters).edit_gradient()
    gradients = torch.cat([torch.as_tensor(p.grad) for p in parameters.values()])
    torch.testing.assert_close(gradients, torch.tensor([3.2, -2.4]))


@pytest.mark.parametrize("scope", SCOPES)
def test_a_basis_comes_back_from_its_file(scope: str, tmp_path: Path) -> None:
    basis = basis_of(scope, gradients(2, 1), gradients(2, 2))
    save(tmp_path / "b.safetensors", basis)
    found = load(tmp_path / "b.safetensors")
    assert found.scope == scope
    assert found.directions.keys() == basis.directions.keys()
    assert all(torch.equal(found.directions[n], rows) for n, rows in basis.directions.items())
    once = (tmp_path / "b.safetensors").read_bytes()
    save(tmp_path / "b.safetensors", found)
    assert (tmp_path / "b.safetensors").read_bytes() == once
    save(tmp_path / "empty.safetensors", Basis(scope))
    assert len(load(tmp_path / "empty.safetensors")) == 0


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("form", ["rows", "shaped", "lists"])
def test_raw_gradients_convert_to_the_basis_that_they_make(
    scope: Any, form: str, tmp_path: Path
) -> None:
    raw = gradients(3)
    content: dict[str, Any] = {f"module.{name}": rows for name, rows in raw.items()}
    if form == "shaped":
        content = {name: raw[name].unflatten(1, shape) for name, shape in SHAPES.items()}
    if form == "lists":
        content = {name: list(rows.unflatten(1, SHAPES[name])) for name, rows in raw.items()}
    torch.save(content, tmp_path / "grad_DTD.pth")
    convert(tmp_path / "grad_DTD.pth", tmp_path / "dtd.safetensors", scope)
    found = load(tmp_path / "dtd.safetensors")
    torch.testing.assert_close(found.project(vectors(7)), basis_of(scope, raw).project(vectors(7)))


def published_steps(count: int, **options: Any) -> tuple[StaleProjection, list[Tensor], Tensor]:
    """Gradients (step, step + 1) a step; what became of them, and what was stored."""
    parameter = nn.Parameter(torch.zeros(2))
    seam = StaleProjection({"a": parameter}, total=count, **options)
    used = []
    for step in range(count):
        parameter.grad = torch.tensor([step + 1.0, step + 2.0])
        seam.edit_gradient()
        used.append(parameter.grad.clone())
    return seam, used, seam.gradients()["a"]


def test_the_published_edit_stores_every_few_steps_and_leaves_the_first_task_alone() -> None:
    _, used, stored = published_steps(6, directions={}, samples=3)
    assert [grad.tolist() for grad in used] == [[i + 1.0, i + 2.0] for i in range(6)]
    assert stored.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert len(published_steps(7, directions={}, samples=3)[2]) == 4  # 7 // 3 = 2


def test_the_published_edit_hands_on_the_stale_projected_gradient() -> None:
    _, used, stored = published_steps(6, directions={"a": torch.eye(2)[:1]}, samples=3)
    assert [grad.tolist() for grad in used] == [
        *([[0.0, 2.0]] * 2),
        *([[0.0, 4.0]] * 2),
        *([[0.0, 6.0]] * 2),
    ]
    assert stored.tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]  # as they were


def test_published_directions_hold_97_percent_and_are_put_behind_the_earlier_ones() -> None:
    rows = torch.zeros(3, 6)
    rows[0, 0], rows[1, 1], rows[2, 2] = 9.0, 4.0, 1.0  # 81 + 16 of 98: 99 %
    found = extended({}, {"a": rows, "b": rows[:1]}, seeded())
    assert found.keys() == {"a"}  # one gradient makes no directions
    torch.testing.assert_close(found["a"].abs(), torch.eye(6)[:2], atol=1e-5, rtol=0.0)
    tilted = torch.tensor([[1.0, 0, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0]])
    both = extended(found, {"a": tilted}, seeded())
    assert len(both["a"]) == 3
    inner = both["a"] @ both["a"].T
    assert abs(float(inner[0, 2])) == pytest.approx(0.5**0.5, abs=1e-5)  # not orthonormal
    gradient = torch.ones(6)
    once = ogd_published.project(both["a"], gradient)
    assert not torch.allclose(ogd_published.project(both["a"], once), once, atol=0.1)


def test_published_directions_are_at_most_twenty_and_follow_the_generator() -> None:
    rows = torch.randn(30, 40, generator=seeded())
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    found = extended({}, {"a": rows}, seeded(1))["a"]
    assert torch.equal(torch.rand(1), expected)
    assert 15 < len(found) <= 20
    assert torch.equal(extended({}, {"a": rows}, seeded(1))["a"], found)
    torch.testing.assert_close(found @ found.T, torch.eye(len(found)), atol=1e-5, rtol=0.0)


def test_published_protection_leaves_biases_embeddings_and_projections_out() -> None:
    network = Network()
    names = set(protected(network.model))
    block = "visual.transformer.resblocks.0"
    kinds = ("ln_1", "attn.in_proj", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    parts = [f"{block}.{kind}{'_' if kind == 'attn.in_proj' else '.'}weight" for kind in kinds]
    assert {name for name in names if name.startswith(block)} == set(parts)
    left = set(dict(network.model.named_parameters())) - names
    assert all(name.endswith("bias") for name in left if "resblocks" in name)
    assert {"visual.proj", "text_projection", "visual.conv1.weight", "logit_scale"} <= left
    assert {"visual.ln_post.weight", "ln_final.weight"} <= names


def test_published_steps_of_adamw_are_not_orthogonal() -> None:
    network = Network()
    seam = StaleProjection(protected(network.model), {}, samples=2, total=4)
    network.fit(4, seam.edit_gradient)
    directions = extended({}, seam.gradients(), seeded())
    assert directions.keys() == protected(network.model).keys()
    before = {name: p.detach().clone() for name, p in network.parameters.items()}
    network.fit(
        2, StaleProjection(protected(network.model), directions, samples=1, total=2).edit_gradient
    )
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    step = (network.parameters[name].detach() - before[name]).flatten()
    assert float((directions[name] @ step).abs().max()) > 1e-4


def test_published_directions_have_files_that_are_no_basis(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    directions = {"a": torch.ones(2, 3)}
    ogd_published.save_directions(path, directions)
    assert torch.equal(ogd_published.load_directions(path)["a"], directions["a"])
    with pytest.raises(DataError, match="expected a basis with scope joint or tensor, got publish"):
        load(path)


def test_messages_say_what_was_expected(tmp_path: Path) -> None:
    basis = basis_of("joint", gradients(2))
    with pytest.raises(DataError, match=r"the 2 trained tensors .* got 1 that differ in b; train"):
        basis.project({"a": torch.zeros(3, 4)})
    with pytest.raises(DataError, match="differ in b"):
        basis.add_(gradients(2) | {"b": torch.zeros(2, 6)})
    uneven = gradients(2) | {"b": torch.zeros(3, 5)}
    with pytest.raises(DataError, match=r"same number .* got \[2, 3\]; take scope tensor"):
        Basis("joint").add_(uneven)
    with pytest.raises(ConfigError, match=r"ogd\.gradients: expected one of label-logit, mean"):
        Network().gradients("logits")
    with pytest.raises(ConfigError, match=r"ogd\.samples: expected 1 to 5, .* got 6; take fewer"):
        StaleProjection({}, {}, samples=6, total=5)
    with pytest.raises(DataError, match=r"the 0 protected weights, got 1 of others \(a\); take"):
        StaleProjection({}, {"a": torch.eye(2)}, samples=1, total=5)


def test_files_that_are_no_basis_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.eye(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match="expected a basis with scope joint or tensor, got None"):
        load(tmp_path / "weights.safetensors")
    save(tmp_path / "off.safetensors", Basis("tensor", {"a": 2 * torch.eye(3)}))
    with pytest.raises(DataError, match="expected orthonormal directions, got some off by 3; make"):
        load(tmp_path / "off.safetensors")
    with pytest.raises(DataError, match="expected a file of weights, found none"):
        load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    "content", [{"a": torch.zeros(())}, {"a": []}, {"a": [torch.ones(2), torch.ones(3)]}, {}, [1]]
)
def test_files_of_anything_but_gradients_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "grad.pth")
    with pytest.raises(DataError, match=r"expected gradients by name, .*; write it anew"):
        convert(tmp_path / "grad.pth", tmp_path / "b.safetensors", "tensor")
    assert not (tmp_path / "b.safetensors").exists()


def test_a_file_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    torch.save({"a": weights.State(tmp_path, {})}, tmp_path / "grad.pth")
    with pytest.raises(DataError, match="expected nothing but tensors, got a pickle"):
        ogd_published.read_gradients(tmp_path / "grad.pth")
    with pytest.raises(DataError, match="found none; mend the path"):
        ogd_published.read_gradients(tmp_path / "absent.pth")


def test_the_documented_table_is_the_measured_one() -> None:
    lines = json.loads((ROOT / "reports/bench/protection.json").read_text())["lines"]
    text = (ROOT / "docs/ogd.md").read_text()
    table = text[text.index("| rate | what |") :].split("\n\n", 1)[0].splitlines()[2:]
    assert len(table) == len(lines)
    columns = ("stored_label", "others_label", "stored_all", "others_all", "after")
    for row, line in zip(table, lines, strict=True):
        told = [cell.strip() for cell in row.strip("|").split("|")][2:]
        for cell, name in zip(told, columns, strict=True):
            assert float(cell) == pytest.approx(
                line[name], abs=0.51 * 10 ** -len(cell.split(".")[1])
            )
