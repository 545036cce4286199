"""Every terminal of the documentation says what it shows."""

from __future__ import annotations

import pytest

from .pages import PAGES, blocks_of, name_of
from .terminal import commands_of, play

PLAYED = [page for page in PAGES if any(each.kind == "console" for each in blocks_of(page))]


@pytest.mark.parametrize("page", PLAYED, ids=name_of)
def test_a_terminal_says_what_the_page_shows(page, start):
    play(page, start)


@pytest.mark.parametrize("page", PLAYED, ids=name_of)
def test_what_a_terminal_shows_has_a_command_above_it(page):
    for block in blocks_of(page):
        if block.kind == "console":
            assert block.text.startswith("$ "), block
            assert commands_of(block.text)
