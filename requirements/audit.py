"""Are there published advisories about what requirements.lock pins? ``make audit``.

Asks the advisory database over the network, through pip-audit in an environment of its own. Exit
code 0: none, or such as ``audit-exceptions.txt`` gives a reason for; 1: there are; 2: it could not
be asked, so nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TOOL = "pip-audit==2.9.0"
HERE = Path(__file__).parent
LOCK = HERE.parent / "requirements.lock"
EXCEPTIONS = HERE / "audit-exceptions.txt"
COMMAND = ["uv", "tool", "run", "-q", TOOL, "--disable-pip", "--require-hashes", "-f", "json", "-r"]


def main() -> int:
    """Ask, and print one line an advisory."""
    try:
        answer = asked()
    except (OSError, ValueError) as error:
        print(
            f"audit: expected an answer of the advisory database, got {str(error)!r}; nothing is "
            "known of the lock: run again where there is a network",
            file=sys.stderr,
        )
        return 2
    lines, open_ones = told(answer, exceptions())
    print("\n".join(lines))
    return 1 if open_ones else 0


def asked() -> dict[str, list[dict]]:
    """What pip-audit says of the lock.

    Raises:
        ValueError: no answer; the last line that it said.
    """
    done = subprocess.run([*COMMAND, str(LOCK)], capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise ValueError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(done.stdout)


def exceptions() -> dict[str, str]:
    """Advisories that are let pass, and why."""
    lines = [line.split("#")[0].strip() for line in EXCEPTIONS.read_text().splitlines()]
    return dict(line.split(maxsplit=1) for line in lines if line)


def told(answer: dict[str, list[dict]], known: dict[str, str]) -> tuple[list[str], int]:
    """A line an advisory and one of the whole, and how many have no reason to pass."""
    lines, unknown, used = [], 0, set()
    for package in answer["dependencies"]:
        for found in package.get("vulns", []):
            names = [found["id"], *found.get("aliases", [])]
            reason = next((known[name] for name in names if name in known), "")
            used |= set(names)
            unknown += not reason
            fixed = ", ".join(found.get("fix_versions", [])) or "nowhere"
            pinned = f"{package['name']} {package['version']}"
            lines.append(
                f"{found['id']}: {pinned}, fixed in {fixed}"
                + f"; let pass: {reason}" * bool(reason)
            )
    skipped = [package["name"] for package in answer["dependencies"] if "skip_reason" in package]
    lines += [
        f"{name}: expected an advisory that is still there; take it out"
        for name in known
        if name not in used
    ]
    note = f", {len(skipped)} not known to it ({', '.join(skipped)})" if skipped else ""
    lines.append(
        f"{len(answer['dependencies'])} packages asked for{note}; {unknown} open advisories"
    )
    return lines, unknown


if __name__ == "__main__":
    sys.exit(main())
