"""``python -m benchmarks``: measure, and show the table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.bench import Bench, Settings
from benchmarks.contenders import NAMES
from benchmarks.machine import date, machine, versions
from benchmarks.process import raise_descriptor_limit
from benchmarks.report import as_json, table
from benchmarks.sections import SECTIONS
from benchmarks.workshop import Unavailable, Workshop

CANNOT, INTERRUPTED = 2, 130
"""The exit statuses for what a person has to change first, and for a person who had enough."""

PICTURES = (".svg", ".png", ".pdf")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and exit."""
    try:
        _run(_parse(arguments))
    except Unavailable as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        sys.exit(CANNOT)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _run(options: argparse.Namespace) -> None:
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        bench = Bench(_settings(options), Workshop(Path(folder)), _say)
        for name in options.sections or SECTIONS:
            SECTIONS[name](bench)
    notebook = bench.notebook
    seen = dict.fromkeys(
        name for measure in notebook.measures for name in notebook.figures(measure)
    )
    about = (machine(), versions(seen), date())
    print(table(notebook, bench.settings, *about))
    if options.json:
        text = json.dumps(as_json(notebook, bench.settings, *about), indent=2, ensure_ascii=False)
        options.json.write_text(text + "\n")
    if options.plot:
        from benchmarks.plot import draw

        draw(notebook, f"{about[0]}; {about[2]}", options.plot)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure what a handshake costs, beside the servers that people would "
        "otherwise write. benchmarks/README.md says how to read the figures.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="SECTION",
        help=f"what to measure: {', '.join(SECTIONS)} (default: all of them)",
    )
    parser.add_argument(
        "--only", default="", metavar="NAME,...", help=f"whom to measure: {', '.join(NAMES)}"
    )
    parser.add_argument("--rounds", type=_count, metavar="N", help="samples of each figure (3)")
    parser.add_argument(
        "--handshakes", type=_count, metavar="N", help="how many make a sample (20000)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="see that everything works, in a minute or two"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there; .svg or .png")
    options = parser.parse_args(arguments)
    options.only = tuple(name for name in options.only.split(",") if name)
    for kind, given, known in (
        ("section", options.sections, SECTIONS),
        ("contender", options.only, NAMES),
    ):
        for name in given:
            if name not in known:
                raise Unavailable(f"no {kind} {name!r}; there are {', '.join(known)}")
    # Said now, and not when everything is measured.
    for file in (options.json, options.plot):
        if file is not None and not file.resolve().parent.is_dir():
            raise Unavailable(f"no folder {file.resolve().parent} to write {file.name} into")
    if options.plot is not None:
        _see_that_it_can_plot(options)
    return options


def _see_that_it_can_plot(options: argparse.Namespace) -> None:
    if options.plot.suffix not in PICTURES:
        raise Unavailable(f"cannot draw {options.plot}; name a {', '.join(PICTURES)} file")
    if options.sections and not {"handshakes", "memory"} & set(options.sections):
        raise Unavailable("--plot draws handshakes and memory; measure one of them")
    if find_spec("matplotlib") is None:
        raise Unavailable("--plot needs matplotlib; install it with pip install '.[bench]'")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def _settings(options: argparse.Namespace) -> Settings:
    settings = Settings(only=options.only)
    if options.quick:
        settings = settings.quick()
    given = {
        name: getattr(options, name)
        for name in ("rounds", "handshakes")
        if getattr(options, name) is not None
    }
    return replace(settings, **given)


def _say(sentence: str) -> None:
    print(f"benchmarks: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    main()
