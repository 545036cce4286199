"""The news: a fragment for each change that users can notice, as docs/news/README.rst says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import DOCS

FRAGMENTS = sorted(each for each in (DOCS / "news").iterdir() if each.name != "README.rst")
KINDS = ("feature", "bugfix", "doc", "removal", "misc")


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: fragment.name)
def test_a_fragment_is_one_sentence_about_an_issue(fragment: Path):
    assert re.fullmatch(rf"\d+(\.[a-z-]+)?\.({'|'.join(KINDS)})\.rst", fragment.name)
    assert re.fullmatch(r"\S[^\n]*\.\n", fragment.read_text())


def test_the_kinds_are_those_that_the_readme_names():
    told = (DOCS / "news" / "README.rst").read_text()

    assert all(f"``{kind}``" in told for kind in KINDS)
