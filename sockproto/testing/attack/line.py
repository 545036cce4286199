"""The command line of ``python -m sockproto.testing.attack``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sockproto.core.errors import ConfigurationError
from sockproto.service.units import seconds, show_seconds, size
from sockproto.testing.attack.arguments import CANNOT, PROGRAM, Parser, reading, say
from sockproto.testing.attack.compare import compare
from sockproto.testing.attack.conduct import run
from sockproto.testing.attack.plan import BOUNDS, DEFAULTS, KINDS, Plan, read_bytes

NOT_SERVED, INTERRUPTED = 1, 130
"""The exit statuses for fewer than ``--at-least``, and for a person who had enough."""

COMPARE = "compare"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = compare(words[1:]) if words[:1] == [COMPARE] else _attack(words)
    except ConfigurationError as error:
        say(str(error))
        status = CANNOT
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


def _attack(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    given = {
        name: getattr(options, name) for name in (*BOUNDS, "sources", "prober_sources", *_WORDS)
    }
    plan = Plan.read(options.kind, options.target, **given)
    report = run(plan, command=options.command, say=say)
    if options.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print(report)
    if options.at_least is None:
        return 0
    reached = (report.attack.first_try or 0.0) * 100
    if reached >= options.at_least:
        return 0
    say(f"{reached:g} % were served at the first try, expected at least {options.at_least:g} %")
    return NOT_SERVED


_WORDS = ("send", "expect")


def _parser() -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description="Attack a server on this machine, with an honest client beside it as the "
        "judge. Targets and sources are loopback addresses, and every attack has an end.",
        epilog="'compare' in the place of KIND runs the attacks against several servers; see "
        f"{PROGRAM} compare --help.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "kind",
        metavar="KIND",
        help="; ".join(f"{name}: {kind.summary}" for name, kind in KINDS.items()),
    )
    parser.add_argument("target", metavar="TARGET", help="HOST:PORT of loopback")
    who = parser.add_argument_group("the attackers")
    who.add_argument(
        "--from",
        dest="sources",
        metavar="NETWORK",
        help="where they come from: 127.0.0.2, or a network like 127.1.0.0/16",
    )
    _number(who, "connections", int, "how many at once (each kind has a number of its own)")
    _number(who, "total", int, "after how many connections they have had enough")
    _number(who, "rate", float, "the most new connections in a second (as many as possible)")
    _number(who, "amount", size, "after how many bytes they have had enough")
    _number(who, "duration", _time, "how long they stay at most")
    _number(who, "return_after", _time, "how long one stays away that was shown out")
    _number(who, "drip_every", _time, "how long from byte to byte, for drip")
    judge = parser.add_argument_group("the honest client")
    judge.add_argument(
        "--prober-from",
        dest="prober_sources",
        metavar="NETWORK",
        help="where it comes from (127.0.0.1)",
    )
    judge.add_argument(
        "--send",
        type=reading(read_bytes),
        metavar="BYTES",
        help=r"what it says (1); \n and \x00 work",
    )
    judge.add_argument(
        "--expect", type=reading(read_bytes), metavar="BYTES", help="what the answer begins with"
    )
    _number(judge, "quiet", _time, "how long it is alone before the attack")
    _number(judge, "after", _time, "and how long afterwards")
    _number(judge, "probe_every", _time, "how long from visit to visit")
    _number(judge, "tries", int, "how often it tries")
    _number(judge, "try_after", _time, "how long from try to try")
    _number(judge, "try_timeout", _time, "how long it waits for an answer")
    parser.add_argument(
        "--command", metavar="COMMAND", help="start this server, and report what it takes"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument(
        "--at-least",
        type=float,
        metavar="PERCENT",
        help="exit with status 1 if fewer were served at the first try in the attack",
    )
    return parser


def _number(group: Any, name: str, kind: Callable[[str], float], help: str) -> None:
    default = DEFAULTS.get(name)
    if default is not None:
        help += f" ({show_seconds(default) if kind is _time else f'{default:,}'})"
    group.add_argument(
        f"--{name.replace('_', '-')}",
        dest=name,
        type=reading(kind),
        metavar="T" if kind is _time else "SIZE" if kind is size else "N",
        help=help,
    )


def _time(text: str) -> float:
    return 0.0 if text == "0" else seconds(text)
