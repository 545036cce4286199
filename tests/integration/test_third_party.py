"""Somebody else's handshake, begun with the command, beside us: found, listed, proved, and gone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .test_packaging import (
    PATIENCE,
    checkout,
    environment,
    pip,
    run,
    unisolated,
)

__all__ = ["checkout"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

HELPED = """\
open-door:WORD
    Accept whoever knows the word.
"""


@pytest.mark.parametrize("editable", [False, True], ids=["normal", "editable"])
def test_a_package_that_was_begun_with_the_command_comes_and_goes(
    tmp_path: Path, checkout: Path, editable: bool
):
    there = environment(tmp_path / "there")
    python = there / "bin" / "python"
    to_pip = ["--python", python]
    mode = ["-e"] if editable else []
    pip(*to_pip, "install", "--no-deps", *unisolated(), *mode, checkout, cwd=tmp_path)
    theirs = tmp_path / "theirs"

    def sockproto(*arguments: str | Path) -> str:
        return run(python, "-P", "-m", "sockproto", *arguments, cwd=tmp_path)

    def listed() -> str:
        # What the script twistd does.
        twistd = "from twisted.scripts.twistd import run; run()"
        return run(python, "-P", "-c", twistd, "sockserver", "--help-handshakes", cwd=tmp_path)

    sockproto("new-handshake", "open-door", "--directory", theirs)
    assert HELPED not in listed()

    pip(*to_pip, "install", "--no-deps", *unisolated(), *mode, theirs, cwd=tmp_path)

    assert HELPED in listed()
    report = sockproto("conformance", "open-door:sesame", "--strict")
    assert " FAILED" not in report
    assert " WEAK" not in report
    assert report.splitlines()[-1].startswith("open-door (server and client): ")
    tests = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=theirs)
    assert "7 passed" in tests

    pip(*to_pip, "uninstall", "-y", "sockproto-open-door", cwd=tmp_path)

    assert HELPED not in listed()
    gone = subprocess.run(
        [python, "-P", "-m", "sockproto", "conformance", "open-door:sesame"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert gone.returncode == 2
    assert gone.stderr.startswith("sockproto: unknown handshake 'open-door'")
