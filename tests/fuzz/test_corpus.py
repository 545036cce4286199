"""What the fuzzer has found, and what one could think of, replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from .__main__ import CORPUS, MAX_LEN
from .targets import TARGETS


def replay(target: Callable[[bytes], object], files: Iterable[Path]) -> None:
    for file in files:
        try:
            target(file.read_bytes())
        except Exception as error:
            raise AssertionError(f"{file.relative_to(CORPUS)}: {error!r}") from error


def inputs_of(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_stands_its_corpus(name):
    files = inputs_of(name)

    assert len(files) >= 3
    assert max(file.stat().st_size for file in files) <= MAX_LEN
    replay(TARGETS[name], files)


def test_every_corpus_belongs_to_a_target():
    assert {each.name for each in CORPUS.iterdir()} == set(TARGETS)


def test_a_parser_that_does_not_is_shown_with_the_file():
    def broken(data: bytes) -> None:
        data.decode("ascii")

    with pytest.raises(AssertionError, match=r"^networks/not-utf-8: UnicodeDecodeError"):
        replay(broken, inputs_of("networks"))
