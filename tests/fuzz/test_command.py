"""``python -m tests.fuzz``, as far as it goes without atheris."""

from __future__ import annotations

import sys

from .__main__ import main


def test_without_atheris_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "atheris", None)

    assert main(["all"]) == 2
    assert capsys.readouterr().err == (
        "atheris is not installed; install it with: pip install 'sockproto[fuzz]'\n"
    )


def test_a_target_that_is_none_is_told_with_those_that_are(capsys):
    assert main(["passphrase"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("'passphrase' is no target; they are allow_list, ")
    assert said.count("\n") == 1
