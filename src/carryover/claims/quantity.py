"""A claim's quantity: an expression over rows, read from text and evaluated.

``accuracy(item="fr", fraction=0.001, cut=4) - accuracy(item="baseline", fraction=0.001)`` takes
the two metrics' values; numbers, ``+ - * /`` and the functions below stand around them. An axis
that a term leaves open must have one value in the rows, or be consumed by ``over=``. Repeats (the
axes of kind ``repeat``) are never fixed: the expression has one value a repeat.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from carryover.claims.functions import (
    ANY,
    FUNCTIONS,
    OVER,
    SHARE,
    Field,
    Key,
    OverAxis,
    Values,
    as_matrix,
)
from carryover.claims.runs import NotRun
from carryover.claims.schema import Schema
from carryover.errors import ConfigError, listed

LONGEST = 1000  # characters of a quantity
UNTRAINED = ("method", "zero-shot")  # its accuracies before any task stand for all later ones

Node = ast.expr


@dataclass(frozen=True)
class Term:
    """A metric with some axes fixed, as it stands in a quantity."""

    metric: str
    split: str
    fixed: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        axes = ", ".join(f"{axis} {value}" for axis, value in self.fixed)
        return f"{self.split} {self.metric}" + (f" ({axes})" if axes else "")


@dataclass(frozen=True)
class Quantity:
    """An expression that was checked against the schema.

    Attributes:
        text: as it stands in the ledger.
        finding: name and arguments of a finding (`FINDINGS` of a study), where it is one.
    """

    text: str
    tree: Node
    split: str
    finding: tuple[str, dict[str, Any]] | None = None

    @cached_property
    def terms(self) -> dict[str, Term]:
        """Terms by their text in the tree."""
        return {
            ast.unparse(node): _term(node, self.split)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and _name(node) not in OVER
        }

    @property
    def linear(self) -> bool:
        """Whether it is a sum of its terms' values with constant weights."""
        return self._is_sum(name for name, each in FUNCTIONS.items() if each.linear)

    @property
    def stepped(self) -> bool:
        """Whether it moves in steps of its terms: a sum, or one of the best or worst of some."""
        linear = [name for name, each in FUNCTIONS.items() if each.linear]
        return self._is_sum([*linear, "best", "worst"])

    def _is_sum(self, functions: Iterable[str]) -> bool:
        """Whether it has these functions alone, and no product of two terms."""
        known = set(functions)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _name(node) in FUNCTIONS.keys() - known:
                return False
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
                sides = [node.right] if isinstance(node.op, ast.Div) else [node.left, node.right]
                if all(any(isinstance(n, ast.Call) for n in ast.walk(side)) for side in sides):
                    return False
        return True

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest value that it can have; accuracies lie in 0..1."""
        return _ends(self.tree)

    def ordered(self, fields: Mapping[str, Field]) -> tuple[Values, Values] | None:
        """Places and values of the one correlation that the quantity is, else None."""
        if not isinstance(self.tree, ast.Call) or _name(self.tree) != "correlation":
            return None
        over = str(_keywords(self.tree, self.text)["over"])
        inner = _evaluate(self.tree.args[0], fields)
        pairs = sorted((dict(key)[over], float(values[0])) for key, values in inner.items())
        return np.array([float(a) for a, _ in pairs]), np.array([b for _, b in pairs])

    def values(self, fields: Mapping[str, Field]) -> Values:
        """The value in each case, from the terms' values.

        Raises:
            NotRun: rows that it needs are not there.
            ConfigError: an axis is left open.
        """
        found = _evaluate(self.tree, fields)
        if len(found) != 1:
            axes = sorted({axis for key in found for axis, _ in key})
            raise ConfigError(
                f"{self.text}: expected one value, got {len(found)} over {listed(axes)}; fix that "
                "axis, or take it with over="
            )
        return next(iter(found.values()))


def read(text: str, split: str, schema: Schema, where: str) -> Quantity:
    """A quantity from its text.

    Raises:
        ConfigError: it does not parse, or names what the schema lacks.
    """
    if len(text) > LONGEST:
        raise ConfigError(
            f"{where}: expected at most {LONGEST} characters, got {len(text)}; split the claim"
        )
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{where}: expected an expression, got {text!r} ({error}); mend it"
        ) from error
    if isinstance(tree, ast.Call) and _name(tree) in schema.findings:
        arguments = _keywords(tree, where)
        if tree.args:
            raise ConfigError(f"{where}: expected {_name(tree)}(axis=value), got a bare value")
        schema.expect_axes(arguments, where)
        return Quantity(text, tree, split, (_name(tree), arguments))
    _check(tree, schema, where)
    return Quantity(text, tree, split)


def _check(node: Node, schema: Schema, where: str) -> None:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _check(node.operand, schema, where)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        if isinstance(node.op, ast.Div) and ast.unparse(node.right) in ("0", "0.0", "-0"):
            raise ConfigError(f"{where}: expected a divisor other than 0, got {ast.unparse(node)}")
        _check(node.left, schema, where)
        return _check(node.right, schema, where)
    if isinstance(node, ast.Call):
        name, arguments = _name(node), _keywords(node, where)
        if name not in FUNCTIONS:
            schema.expect_metric(name, where)
            if node.args:
                raise ConfigError(f"{where}: expected {name}(axis=value), got a bare value")
            return schema.expect_axes(arguments, where)
        matrix = FUNCTIONS[name].matrix is not None
        if matrix and not node.args:
            return schema.expect_open(("after", "task"), arguments, f"{where}: {name}")
        if not matrix and len(node.args) == 1 and list(arguments) == ["over"]:
            schema.expect_axes({str(arguments["over"]): None}, where)
            return _check(node.args[0], schema, where)
        form = "axis=value" if matrix else 'METRIC(...), over="axis"'
        raise ConfigError(f"{where}: expected {name}({form}), got {ast.unparse(node)}")
    raise ConfigError(
        f"{where}: expected numbers, + - * /, metrics and {listed(FUNCTIONS)}, got "
        f"{ast.unparse(node)}"
    )


def _name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)


def _keywords(node: ast.Call, where: str) -> dict[str, Any]:
    names = [k.arg for k in node.keywords]
    if None in names or len(set(names)) < len(names):
        raise ConfigError(f"{where}: expected each axis once by name, got {ast.unparse(node)}")
    plain = [isinstance(_negated(k.value), ast.Constant) for k in node.keywords]
    if not all(plain):
        raise ConfigError(f"{where}: expected plain values after =, got {ast.unparse(node)}")
    return {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}


def _negated(node: Node) -> Node:
    """What stands behind a minus sign."""
    return node.operand if isinstance(node, ast.UnaryOp) else node


def _term(node: ast.Call, split: str) -> Term:
    fixed = _keywords(node, "quantity")
    split = fixed.pop("split", split)
    return Term(_name(node), split, tuple(sorted(fixed.items())))


def _ends(node: Node) -> tuple[float, float]:
    if isinstance(node, ast.Constant):
        return float(node.value), float(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp):
        low, high = _ends(node.operand)
        return -high, -low
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        (low, high), (least, most) = _ends(node.left), _ends(node.right)
        added = isinstance(node.op, ast.Add)
        return (low + least, high + most) if added else (low - most, high - least)
    if isinstance(node, ast.Call):
        function = FUNCTIONS.get(_name(node))
        if function:
            return function.ends or _ends(node.args[0])
        return SHARE if "accuracy" in _name(node) else ANY
    return ANY


# --- values ------------------------------------------------------------------------------------


def _evaluate(node: Node, fields: Mapping[str, Field]) -> Field:
    if isinstance(node, ast.Constant):
        return {frozenset(): np.array([float(node.value)])}  # type: ignore[arg-type]
    if isinstance(node, ast.UnaryOp):
        return {key: -value for key, value in _evaluate(node.operand, fields).items()}
    if isinstance(node, ast.BinOp):
        work = OPERATORS[type(node.op)]
        return dict(_joined(_evaluate(node.left, fields), _evaluate(node.right, fields), work))
    assert isinstance(node, ast.Call)
    name = _name(node)
    if name not in FUNCTIONS:
        return fields[ast.unparse(node)]
    function = FUNCTIONS[name]
    if function.matrix is not None:
        constant = _keywords(node, name).get(UNTRAINED[0]) == UNTRAINED[1]
        return {frozenset(): function.matrix(as_matrix(fields[ast.unparse(node)], constant))}
    over = str(_keywords(node, name)["over"])
    assert function.over is not None
    return _consumed(_evaluate(node.args[0], fields), over, function.over, name)


def _joined(
    left: Field, right: Field, work: Callable[[Values, Values], Values]
) -> Iterator[tuple[Key, Values]]:
    """Pairs of cells that agree on the axes both have; every cell has a partner.

    Raises:
        NotRun: cells that one side has alone.
    """
    met: set[Key] = set()
    for a, x in left.items():
        for b, y in right.items():
            both = dict(a)
            if all(both.get(axis, value) == value for axis, value in b):
                met |= {a, b}
                yield a | b, work(x, y)
    alone = (left.keys() | right.keys()) - met
    if alone:
        named = [", ".join(f"{axis} {value}" for axis, value in sorted(key)) for key in alone]
        raise NotRun(f"the other side at {'; '.join(sorted(named)) or 'all'}")


def _consumed(found: Field, over: str, work: OverAxis, name: str) -> Field:
    groups: dict[Key, list[tuple[Any, Values]]] = {}
    for key, values in found.items():
        axes = dict(key)
        if over not in axes and FUNCTIONS[name].of_one:
            groups.setdefault(key, []).append((0, values))
            continue
        if over not in axes:
            raise NotRun(f"two values of {over} for {name}")
        place = axes.pop(over)
        groups.setdefault(frozenset(axes.items()), []).append((place, values))
    done = {}
    for key, pairs in groups.items():
        pairs.sort(key=lambda pair: pair[0])
        places = [place for place, _ in pairs]
        done[key] = work(np.array(places), np.stack([values for _, values in pairs]))
    return done


OPERATORS: dict[type[ast.operator], Callable[[Values, Values], Values]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
