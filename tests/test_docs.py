"""The commands of the documentation do what the pages say (`doc_blocks` has what a tag means).

Those tagged ``ci`` run with the slow tests; ``pytest -m docs_slow`` runs those that take minutes to
hours, ``pytest -m docs_host`` those that need a machine with Docker, SLURM and the like. Both run
the page's ``ci`` blocks on the way, since theirs may build on them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import REPOSITORY, TINY, Checkout
from doc_blocks import COMMANDS, FOUND, KINDS, LANGUAGES, NEEDS, PAGES, Block, blocks

CI_SECONDS = 900  # after which a block is stuck, also on a machine that does other work


def pages_with(kind: str) -> list[str]:
    return list(dict.fromkeys(block.page for block in COMMANDS if block.kind == kind))


# --- what holds of every block -----------------------------------------------------------------


def test_blocks_were_found() -> None:
    assert len(COMMANDS) > 20
    assert {block.kind for block in COMMANDS} == set(KINDS)


def test_every_block_names_its_language() -> None:
    assert [b.name for b in FOUND if b.language not in LANGUAGES] == []


def test_every_block_of_commands_is_tagged_and_no_other() -> None:
    assert [block.name for block in COMMANDS if not block.kind] == []
    assert [block.name for block in FOUND if block.language != "sh" and block.kind] == []


def test_every_note_of_a_tag_is_known() -> None:
    known = {"ci": r"small|exit \d+", "slow": "", "host": "|".join(NEEDS)}
    for block in COMMANDS:
        assert all(re.fullmatch(known[block.kind], note) for note in block.notes), block.name
        assert bool(block.notes) or block.kind != "host", f"{block.name}: what does it need?"


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.name)
def test_a_block_is_bash(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=block.script, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_tag_is_read() -> None:
    text = "a\n<!-- ci: small, exit 2 -->\n```sh\nfalse\n```\n\n```yaml\na: 1\n```\n"
    first, second = blocks(text, "x.md")
    assert (first.line, first.kind, first.notes, first.code) == (3, "ci", ("small", "exit 2"), 2)
    assert first.script == "false\n"
    assert (second.language, second.kind, second.notes) == ("yaml", "", ())


def test_every_link_between_pages_leads_to_a_file() -> None:
    links = [
        (path, target.partition("#")[0])
        for path in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text())
        if not target.startswith(("http", "#"))
    ]
    assert len(links) > 50
    assert [(str(p), link) for p, link in links if not (p.parent / link).exists()] == []


# --- running them ------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Checkout:
    """A clone of the checkout as it stands, changed files too: one commit, nothing ignored."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    named = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if named.returncode:
        pytest.skip("expected a git checkout to copy")
    found = Checkout(tmp_path / "checkout")
    for name in filter(None, named.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (found.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, found.root / name)
    activate = found.root / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("")  # the environment of the tests is on the path already
    commit(found)
    return found


def commit(checkout: Checkout) -> None:
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(
            ["git", *arguments], cwd=checkout.root, env=environment(checkout), check=True
        )


def make_small(checkout: Checkout, data: Path) -> None:
    """Take the parameters of the tests; record their data, networks and embeddings as made."""
    shutil.copy(TINY, checkout.params)
    (checkout.root / "dvc.lock").unlink(missing_ok=True)
    shutil.copytree(data, checkout.root / "data", dirs_exist_ok=True)
    commit(checkout)
    made = ["data@digits", "data@letters", "data@world", "embed"]
    made += ["pretrain@cnn6-digits-0-4", "pretrain@clip-nano"]
    bash(checkout, f"dvc commit -q -f {' '.join(made)} && git add -A && git commit -qm made", 0)


def environment(checkout: Checkout) -> dict[str, str]:
    """The copy's code before any that is installed; nothing of the user's settings."""
    root, name = checkout.root, {"NAME": "t", "EMAIL": "t@example.org"}
    kit = {k: v for k, v in os.environ.items() if not k.startswith(("CARRYOVER_", "DVC_", "GIT_"))}
    git = {f"GIT_{who}_{k}": v for who in ("AUTHOR", "COMMITTER") for k, v in name.items()}
    return (
        kit
        | git
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(root / "src"),
            "CARRYOVER_QUIET": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(root.parent / "dvc"),
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
    )


def bash(checkout: Checkout, script: str, code: int, seconds: int = 0) -> None:
    """Run commands and whatever they start, for so long at most; 0 for no limit."""
    done = subprocess.run(
        ["timeout", str(seconds), "bash", "-euo", "pipefail", "-c", script],
        cwd=checkout.root,
        env=environment(checkout),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, f"{script}\nexit {done.returncode}:\n{done.stdout[-4000:]}"


def run_page(
    copy: Checkout, page: str, kinds: tuple[str, ...], fixtures: Callable[[], Path]
) -> int:
    """Run the blocks of a page of these kinds in order; how many of the last kind ran."""
    small, count = False, 0
    for block in COMMANDS:
        if block.page != page or block.kind not in kinds or block.missing:
            continue
        if "small" in block.notes and kinds != ("ci",):
            continue  # what takes long or needs a machine is meant for the parameters as they are
        if "small" in block.notes and not small:
            make_small(copy, fixtures())
            small = True
        bash(copy, block.script, block.code, CI_SECONDS if block.kind == "ci" else 0)
        count += block.kind == kinds[-1]
    return count


@pytest.fixture
def small_data(request: pytest.FixtureRequest) -> Callable[[], Path]:
    """Makes the data of the small parameters when they are first needed."""
    return lambda: Path(request.getfixturevalue("embedded_once"))


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("ci"))
def test_the_commands_of_a_page_run(
    page: str, copy: Checkout, small_data: Callable[[], Path]
) -> None:
    assert run_page(copy, page, ("ci",), small_data) > 0


@pytest.mark.slow
@pytest.mark.docs_slow
@pytest.mark.parametrize("page", pages_with("slow"))
def test_the_slow_commands_of_a_page_run(
    page: str, copy: Checkout, small_data: Callable[[], Path]
) -> None:
    assert run_page(copy, page, ("ci", "slow"), small_data) > 0


@pytest.mark.slow
@pytest.mark.docs_host
@pytest.mark.parametrize("page", pages_with("host"))
def test_the_commands_of_a_page_run_where_the_machine_has_the_tools(
    page: str, copy: Checkout, small_data: Callable[[], Path]
) -> None:
    wanted = [block for block in COMMANDS if block.page == page and block.kind == "host"]
    if all(block.missing for block in wanted):
        lacking = sorted({need for block in wanted for need in block.missing})
        pytest.skip(f"expected {', '.join(lacking)} on this machine, found none")
    assert run_page(copy, page, ("ci", "host"), small_data) > 0
