"""``reports/index.html``: one self-contained page from the studies' tables and figures."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from carryover import run
from carryover.errors import DataError
from carryover.files import write_text

REPORTS = Path("reports")


@dataclass(frozen=True)
class Section:
    """A study on the page: its question, and its figures with what each shows."""

    question: str
    figures: dict[str, str]


def stage(params: object, item: str, context: run.Context) -> None:
    """Write the page."""
    sections = [section(study) for study in STUDIES]
    context.refuse_edited()
    write_text(REPORTS / "index.html", PAGE.format(sections="\n".join(sections)))


def section(study: str) -> str:
    """A study's heading, question, figures and tables."""
    folder, what = REPORTS / study, STUDIES[study]
    needed = [folder / f"{study}.md", *(folder / f"{name}.svg" for name in what.figures)]
    for path in needed:
        if not path.exists():
            raise DataError(
                f"{path}: expected this file, found none; run `dvc repro {study}-report`"
            )
    figures = [
        f'<figure><img alt="{html.escape(shown)}" src="data:image/svg+xml;base64,'
        f'{base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()}">'
        f"<figcaption>{html.escape(shown)}</figcaption></figure>"
        for name, shown in what.figures.items()
    ]
    body = from_markdown((folder / f"{study}.md").read_text())
    return (
        f'<section id="{study}"><h2>{html.escape(what.question)}</h2>\n'
        + "\n".join(figures)
        + f"\n{body}</section>"
    )


def from_markdown(text: str) -> str:
    """HTML of the Markdown that `report.tables` writes: headings, paragraphs and tables."""
    blocks = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if not lines or lines[0].startswith("# "):
            continue
        if lines[0].startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in rows[0])
            rest = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
                for row in rows[2:]
            )
            blocks.append(
                f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rest}</tbody>'
                "</table></div>"
            )
        else:
            blocks.append(f"<p>{html.escape(' '.join(lines))}</p>")
    return "\n".join(blocks)


STUDIES = {
    "cuts": Section(
        "How many layers of a small CNN should be kept, and how does it depend on data?",
        {
            "difference": "Median accuracy minus the median from scratch, by share of the target "
            "training images, one line a cut; bars are 95 % bootstrap intervals over paired "
            "repeats.",
            "box": "Accuracy by cut; boxes and dots over repeats, coloured by rank group, the "
            "dotted line is the median from scratch.",
        },
    ),
    "clusters": Section(
        "Do clusters of a layer's features tell which layers to keep?",
        {
            "predict": "How well a layer's features cluster against the accuracy of the cut that "
            "keeps the layer last.",
            "box": "Adjusted Rand index by layer; boxes and dots over repeats.",
        },
    ),
}
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>carryover: what survives the next task</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem;
  margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.25rem; margin-top: 2.5rem; }}
p {{ max-width: 46rem; }}
figure {{ margin: 1.5rem 0; }} figcaption {{ font-size: .85rem; max-width: 46rem; }}
img {{ width: 52rem; max-width: 100%; background: #fff; border-radius: 4px; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884;
  white-space: nowrap; }}
</style>
</head>
<body>
<h1>What does a pretrained vision representation carry over to the next task?</h1>
{sections}
</body>
</html>
"""
