"""
Read the pages of the documentation: their code blocks and their tables.

A page shows code in three ways. A file of ``docs/examples`` is included by name; Python in the
README, where nothing can be included, is a passage of such a file; and a terminal is a block of its
own, ``console``, which is played. What was measured is no code: a table of figures, included too or
``text``, and a picture of them. Anything else is a block that nobody runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
README = ROOT / "README.md"
COST = DOCS / "explanation" / "cost.txt"
"""What was measured: what ``python -m benchmarks`` has printed."""

ATTACKS = DOCS / "explanation" / "attacks.txt"
"""What was measured, too: what ``python -m sockproto.testing.attack compare`` has printed."""

PAGES = [README, *sorted(DOCS.rglob("*.rst"))]


@dataclass(frozen=True)
class Block:
    """
    A code block.

    Attributes:
        page: The file that it stands in.
        line: Where, counted from 1.
        kind: ``python``, ``console``, ``sh``, ``text``; ``include`` for a file that is included,
            ``image`` for a picture; ``literal`` for one that does not say what it is.
        text: What it shows; of an include and a picture, the file's name as the page has it.
    """

    page: Path
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line} ({self.kind})"


def name_of(page: Path) -> str:
    """The page as seen from the checkout."""
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """Every code block of a page."""
    read = _markdown if page.suffix == ".md" else _rest
    return [Block(page, *each) for each in read(page.read_text())]


def rows_of(page: Path, table: int = 0) -> list[list[str]]:
    """The rows of a page's ``list-table``, without the header; its cells without their markup."""
    tables: list[list[list[str]]] = []
    for line in page.read_text().splitlines():
        if line.startswith(".. list-table::"):
            tables.append([])
        elif line.startswith("   * -"):
            tables[-1].append([line[7:]])
        elif line.startswith("     -"):
            tables[-1][-1].append(line[7:])
        elif line.startswith("       ") and tables and tables[-1]:
            tables[-1][-1][-1] += f" {line.strip()}"
    return [[cell.replace("``", "") for cell in row] for row in tables[table][1:]]


def _markdown(text: str) -> Iterator[tuple[int, str, str]]:
    for found in re.finditer(r"^( *)```(\S*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE):
        yield _line(text, found), found[2] or "literal", dedent(found[3])


_DIRECTIVE = re.compile(
    r"""
    ^(?P<indent>[ ]*+)
    (?:
        \.\.[ ](?!list-table|toctree|auto)(?P<name>[\w-]+)::[ ]*(?P<argument>[^\n]*)
        | (?!\.\.[ ])(?P<paragraph>[^\n]*::)      # and a literal block after it
        | (?P<doctest>>>>[ ][^\n]*)
    )$
    (?P<body>(?:\n(?=\n|(?P=indent)[ ]+\S)[^\n]*)*)
    """,
    re.VERBOSE | re.MULTILINE,
)


def _rest(text: str) -> Iterator[tuple[int, str, str]]:
    for found in _DIRECTIVE.finditer(text):
        kind, shown = "literal", found[0]
        if found["name"] == "literalinclude":
            kind, shown = "include", found["argument"]
        elif found["name"] == "image":
            kind, shown = "image", found["argument"]
        elif found["name"] == "code-block":
            kind = found["argument"] or kind
            options = re.compile(r"^ *:[\w-]+:.*\n", re.MULTILINE)
            shown = dedent(options.sub("", found["body"].lstrip("\n"))).strip("\n") + "\n"
        yield _line(text, found), kind, shown


def _line(text: str, found: re.Match[str]) -> int:
    return text.count("\n", 0, found.start()) + 1
