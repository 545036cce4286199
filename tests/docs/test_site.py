"""The site: .ci/run builds it, with every warning an error; here is what Sphinx does not see."""

from __future__ import annotations

import re

import pytest

import sockproto
import sockproto.testing

from .pages import DOCS, PAGES, README, ROOT, name_of

INTERFACE = (DOCS / "reference" / "api.rst").read_text()


@pytest.mark.parametrize("package", [sockproto, sockproto.testing], ids=lambda each: each.__name__)
def test_every_public_name_has_its_docstring_on_the_site(package):
    told = re.findall(rf"^\.\. auto\w+:: {re.escape(package.__name__)}\.(\w+)$", INTERFACE, re.M)

    assert sorted(told) == sorted(set(package.__all__) - {"__version__"})


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)", README.read_text())

    assert len(links) > 10
    assert [each for each in links if not (ROOT / each).exists()] == []


def test_the_readme_leads_to_every_shelf():
    text = README.read_text()

    for index in DOCS.glob("*/index.rst"):
        assert f"({name_of(index)})" in text


@pytest.mark.parametrize("page", [each for each in PAGES if each != README], ids=name_of)
def test_a_page_is_on_a_shelf(page):
    shelf = page.relative_to(DOCS).parts[0]

    # The index of each shelf takes whatever stands on it.
    assert shelf in ("index.rst", "tutorial", "howto", "reference", "explanation", "news")
