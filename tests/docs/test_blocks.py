"""
There is no code block that nobody runs.

An example is run if a terminal of some page runs it, or a test of ``test_examples.py`` does.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

from .pages import ATTACKS, COST, EXAMPLES, PAGES, README, ROOT, Block, blocks_of, name_of, rows_of
from .terminal import commands_of

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
FILES = sorted(
    file for file in EXAMPLES.rglob("*") if file.is_file() and "__pycache__" not in file.parts
)

MAIN_JOB = (
    "python3 -m venv .venv && .venv/bin/pip install . && "
    ".venv/bin/twistd -n --pidfile= sockserver\n"
)
TESTS = "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest\n"


def commands() -> list[str]:
    return [
        command.text
        for block in BLOCKS
        if block.kind == "console"
        for command in commands_of(block.text)
    ]


def tested() -> set[str]:
    """The examples that test_examples.py asks for."""
    tree = ast.parse((Path(__file__).parent / "test_examples.py").read_text())
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def is_a_passage(text: str, whole: str) -> bool:
    """Whether these lines stand in a file one after another, perhaps deeper in."""
    depths = {re.match(" *", line)[0] for line in whole.splitlines()}
    return any(f"\n{indent(text, depth)}" in f"\n{whole}" for depth in depths)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_run_by_somebody(block: Block):
    if block.kind == "include":
        included = (block.page.parent / block.text).resolve()
        assert included in (*FILES, COST, ATTACKS), "no such example"
    elif block.kind == "image":
        assert (block.page.parent / block.text).exists()
    elif block.kind == "text":
        assert block.page == README
        assert COST.read_text().startswith(block.text), "not the figures of the explanation"
    elif block.kind == "python":
        whole = [file.read_text() for file in FILES if file.suffix == ".py"]
        assert any(is_a_passage(block.text, each) for each in whole), "no example has it"
    elif block.kind == "sh":
        # .ci/run does the second; the server of the first is in the terminal below it.
        assert block.page == README
        assert block.text in (MAIN_JOB, TESTS)
    else:
        # Whatever else it is, nothing runs it.
        assert block.kind == "console"


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_an_example_is_run_and_shown(file: Path):
    name = str(file.relative_to(EXAMPLES))
    # As a program, as a file that a program is given, or as the module of a plug-in string.
    used = re.compile(rf"\b{re.escape(file.name)}\b|\b{file.stem}:\w")
    trial = f"twisted.trial {file.stem}"
    assert name in tested() or any(used.search(each) or trial in each for each in commands())
    shown = {(b.page.parent / b.text).resolve() for b in BLOCKS if b.kind == "include"}
    assert file in shown


def test_the_commands_of_the_readme_are_there_to_the_letter():
    text = README.read_text()

    assert MAIN_JOB in text
    assert TESTS in text
    pattern = re.search(r'grep -o "(.*)" README.md', (ROOT / ".ci/run").read_text())
    assert pattern
    assert re.search(pattern[1], TESTS)


def test_the_readme_shows_what_a_handshake_costs():
    [figures] = [block.text for block in blocks_of(README) if block.kind == "text"]

    assert "server CPU per handshake" in figures


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_link_leads_somewhere(page: Path):
    text = page.read_text()
    for target in re.findall(r":doc:`([^`]+)`", text):
        assert (page.parent / f"{target}.rst").exists(), target
    if page == README:
        for target in re.findall(r"\]\((?!https:)([^)]+)\)", text):
            assert (ROOT / target).exists(), target


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("```\nx\n```\n", ["literal"]),
        ("```python\nx\n```\n\n```console\n$ x\n```\n", ["python", "console"]),
    ],
)
def test_no_block_of_markdown_is_overlooked(tmp_path: Path, text, kinds):
    page = tmp_path / "page.md"
    page.write_text(text)

    assert [block.kind for block in blocks_of(page)] == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("So::\n\n    x\n", ["literal"]),
        ("::\n\n    x\n", ["literal"]),
        (">>> x\n", ["literal"]),
        (".. code-block:: python\n\n   x\n", ["python"]),
        (".. code::\n\n   x\n", ["literal"]),
        ("  .. image:: x.png\n", ["image"]),
        ("  .. figure:: x.png\n", ["literal"]),
        ("  .. list-table::\n\n     * - x::\n", ["literal"]),
        ("- a list\n\n  .. code-block:: console\n     :caption: b\n\n     $ x\n", ["console"]),
        (".. literalinclude:: x.py\n   :language: python\n", ["include"]),
        (".. parsed-literal::\n\n   x\n", ["literal"]),
        (".. list-table::\n\n   * - x\n", []),
    ],
)
def test_no_block_of_rest_is_overlooked(tmp_path: Path, text, kinds):
    page = tmp_path / "page.rst"
    page.write_text(text)

    assert [block.kind for block in blocks_of(page)] == kinds


def test_the_text_of_a_block_is_what_stands_in_it(tmp_path: Path):
    page = tmp_path / "page.rst"
    page.write_text(
        dedent(
            """\
            Say

            .. code-block:: console
               :caption: a terminal

               $ a
               b

                 c
               $ d

            and on.
            """
        )
    )

    [block] = blocks_of(page)
    assert block.text == "$ a\nb\n\n  c\n$ d\n"
    assert block.line == 3


def test_the_rows_of_a_table_are_read(tmp_path: Path):
    page = tmp_path / "page.rst"
    page.write_text(
        ".. list-table::\n   :header-rows: 1\n\n   * - A\n     - B\n"
        "   * - ``a``\n     - b\n       c\n   * - d\n     -\n"
    )

    assert rows_of(page) == [["a", "b c"], ["d", ""]]
