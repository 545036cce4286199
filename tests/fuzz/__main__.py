"""
Have atheris look for bytes that a parser cannot stand.

The corpus of the target is where it begins. What it finds on its way is forgotten, unless there is
a folder to keep it in; the input of a failure is written into the working directory. Further
options are libFuzzer's, like -max_len=100; the file of an input is tried, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

CORPUS = Path(__file__).parent / "corpus"

MAX_LEN = 5000
"""Bytes; somewhat more than the budget of a handshake."""


def main(arguments: Sequence[str]) -> int:
    """Run a target, or one after the other; gives the exit status."""
    names = sorted(each.name for each in CORPUS.iterdir())
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", metavar="NAME", help=f"all, or one of: {', '.join(names)}")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="processor time for a target [60]"
    )
    parser.add_argument("--keep", type=Path, help="a folder for inputs that reach new code")
    options, rest = parser.parse_known_args(arguments)
    if options.name != "all" and options.name not in names:
        return _complain(f"{options.name!r} is no target; they are {', '.join(names)}")
    if find_spec("atheris") is None:
        return _complain("atheris is not installed; install it with: pip install 'sockproto[fuzz]'")
    chosen = names if options.name == "all" else [options.name]
    return max(_run(name, options.seconds, options.keep, rest) for name in chosen)


def _run(name: str, seconds: float, keep: Path | None, rest: Sequence[str]) -> int:
    """Run a target in a process of its own: the fuzzer ends it without a chance to tidy up."""
    given = [f"-artifact_prefix={name}-", f"-max_len={MAX_LEN}", "-verbosity=0", *rest]
    with TemporaryDirectory() as temporary:
        if all(each.startswith("-") for each in rest):
            kept = Path(temporary if keep is None else keep) / name
            kept.mkdir(parents=True, exist_ok=True)
            given += [str(kept), str(CORPUS / name)]
        command = [sys.executable, "-m", "tests.fuzz.run", name, str(seconds), *given]
        return subprocess.run(command, env={**os.environ, "TMPDIR": temporary}).returncode


def _complain(line: str) -> int:
    print(line, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
