"""``python -m sockproto.testing.attack compare``: the same attacks on several servers."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sockproto._version import __version__
from sockproto.core.errors import ConfigurationError
from sockproto.service.units import seconds
from sockproto.testing.attack.arguments import PROGRAM, Parser, reading, say
from sockproto.testing.attack.conduct import run
from sockproto.testing.attack.household import Household
from sockproto.testing.attack.plan import Plan
from sockproto.testing.attack.report import NONE, Report, columns, milliseconds, percent, size
from sockproto.testing.attack.rivals import BARE_TWISTED, RIVALS, Places, Rival, chosen

MANY, MORE = "127.1.0.0/21", "127.1.0.0/18"
"""2048 addresses, and 16,384: fewer than 20,000 descriptors, which the attackers may have here."""


@dataclass(frozen=True, slots=True)
class Attack:
    """
    An attack that every rival has to bear.

    Attributes:
        title: What the table says.
        kind: Of which kind it is.
        options: What differs from the kind's defaults.
    """

    title: str
    kind: str
    options: Mapping[str, Any]


ATTACKS = {
    "hold": Attack(
        "hold: for a minute, 2000 addresses, one silent connection each, back after 1 s",
        "hold",
        {"sources": MANY, "connections": 2000, "duration": 60.0},
    ),
    "hold-many": Attack(
        "hold: for a minute, 15,000 addresses, one silent connection each, back after 1 s",
        "hold",
        {"sources": MORE, "connections": 15_000, "duration": 60.0},
    ),
    "hold-one": Attack(
        "hold: 5000 silent connections of one address, back after 1 s",
        "hold",
        {"connections": 5000},
    ),
    "drip": Attack(
        "drip: for a minute, 2000 addresses, a byte a second each, back after 1 s",
        "drip",
        {"sources": MANY, "connections": 2000, "duration": 60.0},
    ),
    "flood": Attack(
        "flood: 50 at once, as fast as they can, each from an address of its own",
        "flood",
        {"sources": MANY},
    ),
    "oversize": Attack(
        "oversize: 20 addresses send without end, back at once",
        "oversize",
        {"sources": MANY, "amount": 64 * 1024**3},
    ),
    "reset": Attack(
        "reset: 3500 connections a second, reset at once, from 2000 addresses",
        "reset",
        {"sources": MANY, "rate": 3500.0},
    ),
}
"""What the table is made of, by the name that a person types."""

DURATION = 20.0
"""Seconds that an attack lasts that does not say it."""

LONGEST_ASKED = 20.0
"""Seconds that a program may take to tell its version."""


def compare(words: Sequence[str]) -> int:
    """Run the attacks, and print the table; gives the exit status."""
    options = _parser().parse_args(words)
    for name in options.attacks:
        if name not in ATTACKS:
            raise ConfigurationError(f"no attack {name!r}; there are {', '.join(ATTACKS)}")
    rivals = chosen(options.servers)
    present = [each for each in rivals if not each.missing()]
    for each in rivals:
        if each not in present:
            say(f"{each.name} is left out: there is no {each.missing()}")
    attacks = [ATTACKS[name] for name in options.attacks or ATTACKS]
    results: list[tuple[Attack, list[tuple[Rival, Report | str]]]] = []
    for attack in attacks:
        results.append((attack, []))
        for rival in present:
            say(f"{rival.name}, {attack.title}")
            results[-1][1].append((rival, _run(rival, attack, options)))
    about = f"{machine()}; {datetime.now(UTC):%Y-%m-%d}; {', '.join(_versions(present))}"
    print("\n".join(_table(about, present, results)))
    if options.json is not None:
        made = {
            attack.title: {
                rival.name: report if isinstance(report, str) else report.as_json()
                for rival, report in reports
            }
            for attack, reports in results
        }
        options.json.write_text(json.dumps({"about": about, "attacks": made}, indent=2) + "\n")
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} compare",
        description="Run the same attacks against several servers on this machine, each started "
        "for the purpose and stopped again, and print what their honest clients say.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "attacks",
        nargs="*",
        metavar="ATTACK",
        help=f"{', '.join(ATTACKS)} (default: all of them)",
    )
    parser.add_argument(
        "--servers",
        default="",
        metavar="NAME,...",
        help=f"which: {', '.join(RIVALS)} (default: all that are installed)",
    )
    parser.add_argument(
        "--duration",
        type=reading(seconds),
        metavar="T",
        help="instead of each attack's own (20s, or what the table says)",
    )
    parser.add_argument(
        "--after", type=reading(seconds), default=12.0, metavar="T", help="and afterwards (12s)"
    )
    parser.add_argument(
        "--connections", type=reading(int), metavar="N", help="instead of each attack's own number"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return parser


def _run(rival: Rival, attack: Attack, options: Namespace) -> Report | str:
    """One attack on one rival; gives what came of it, or why nothing did."""
    more = {"duration": DURATION, **attack.options}
    for name in ("duration", "connections"):
        if getattr(options, name) is not None:
            more[name] = getattr(options, name)
    with tempfile.TemporaryDirectory(prefix="attack-") as folder, ExitStack() as stack:
        places = Places(Path(folder), _free_port(), _free_port())
        plan = Plan.read(
            attack.kind,
            f"127.0.0.1:{places.port}",
            send=rival.send,
            expect=rival.expect,
            after=options.after,
            **more,
        )
        try:
            if rival.passes_on:
                command = [*BARE_TWISTED, str(places.backend)]
                stack.enter_context(Household(command, places.backend))
            server = stack.enter_context(Household(rival.prepare(places), places.port))
            return run(plan, household=server)
        except ConfigurationError as error:
            return str(error)


def _table(
    about: str,
    rivals: Sequence[Rival],
    results: Sequence[tuple[Attack, Sequence[tuple[Rival, Report | str]]]],
) -> Iterator[str]:
    yield about
    yield ""
    for each in rivals:
        yield f"{each.name}: {each.settings}"
    for attack, reports in results:
        yield ""
        yield attack.title
        rows: list[tuple[str, ...]] = [COLUMNS]
        notes = []
        for rival, report in reports:
            if isinstance(report, str):
                rows.append((f"  {rival.name}", *[NONE] * (len(COLUMNS) - 1)))
                notes.append(f"  {rival.name}: {report}")
            else:
                rows.append(_row(rival.name, report))
        yield from columns(rows)
        yield from notes


COLUMNS = (
    "",
    "first try",
    "in 5",
    "at its end",
    "p50",
    "p99",
    "recovery",
    "connected",
    "shown out",
    "memory",
    "CPU",
    "processes",
)


def _row(name: str, report: Report) -> tuple[str, ...]:
    taken = report.taken
    assert taken is not None
    recovery = NONE if report.recovery is None else f"{report.recovery:.1f} s"
    return (
        f"  {name}",
        percent(report.attack.first_try),
        percent(report.attack.served),
        percent(report.end.served),
        milliseconds(report.attack.p50),
        milliseconds(report.attack.p99),
        recovery,
        f"{report.tally.connected:,}",
        f"{report.tally.closed + report.tally.reset:,}",
        f"+{size(max(0, taken.most.memory - taken.before.memory))}",
        f"{taken.after.cpu - taken.before.cpu:.1f} s",
        f"{taken.most.processes:,}",
    )


def machine(cpuinfo: str | None = None) -> str:
    """The processor, its cores and the kernel, in one line."""
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = model[1].strip() if model else platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}"


def _versions(rivals: Sequence[Rival]) -> Iterator[str]:
    from twisted import __version__ as twisted_version

    yield f"sockproto {__version__}"
    yield f"Twisted {twisted_version}"
    yield f"Python {platform.python_version()}"
    for each in rivals:
        if each.asks:
            told = subprocess.run(
                each.asks, capture_output=True, text=True, timeout=LONGEST_ASKED, check=False
            )
            found = re.search(r"\d+\.\d+\w*(?:[.-]\w+)*", told.stdout + told.stderr)
            yield f"{each.name} {found[0] if found else 'of an unknown version'}"


def _free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        port: int = asking.getsockname()[1]
        return port
