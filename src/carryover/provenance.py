"""Which code a stage runs: its modules, read from their imports, and their digest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from carryover.files import digest_of_files

PACKAGE = Path(__file__).parent


def modules_of(*entries: str) -> list[Path]:
    """Source files that modules import from this package, directly or not, sorted.

    Read from the source text (imports inside functions count), so nothing is executed. This is
    what a stage of ``dvc.yaml`` must depend on and what a row's ``source`` digest covers.

    Args:
        entries: dotted module names, e.g. ``carryover.studies.cuts``.
    """
    found: dict[str, Path] = {}
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        path = _module_path(name)
        if path is None or name in found:
            continue
        found[name] = path
        for node in _executed(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting.append(node.module)
                waiting += [f"{node.module}.{alias.name}" for alias in node.names]
    return sorted(found.values())


def _executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _executed(node)


def _module_path(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != PACKAGE.name or len(parts) == 1:
        return None
    path = PACKAGE.joinpath(*parts[1:]).with_suffix(".py")
    return path if path.exists() else None


def source_digest(*entries: str) -> str:
    """Digest of all code that the modules run from this package."""
    return digest_of_files(modules_of(*entries))
