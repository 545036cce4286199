"""
``sockproto explain`` says whether a server would let somebody in, and why.

It takes the options of ``twistd sockserver``, makes of them what the server would, and asks that,
instead of opening a socket. So it tells of a server that has just started: nobody is there yet, and
nobody has been penalised.
"""

from __future__ import annotations

from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, TypeAlias

from twisted.python import usage

from sockproto.admission.control import AdmissionControl
from sockproto.commands.line import say
from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.service.descriptors import raise_descriptor_limit
from sockproto.service.escaping import escaped
from sockproto.service.options import Options

Row: TypeAlias = tuple[str, str, str]

SERVED, REFUSED = 0, 1
"""The exit statuses, beside that of a mistake."""

MOST_OF_A_UID = 2**32 - 2
"""The largest user id that there can be; the one above stands for none (chown(2))."""


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Say whether a server with these options would let somebody in: each rule that is looked "
        "at, its verdict and the figures. No socket is opened."
    )
    parser.epilog = "Exit status: 0 would be served, 1 would be refused, 2 usage."
    parser.add_argument(
        "--from",
        dest="address",
        type=_address,
        required=True,
        metavar="ADDR",
        help="who comes: an IPv4 or IPv6 address, or unix",
    )
    parser.add_argument("--tls", action="store_true", help="TLS comes first")
    parser.add_argument(
        "--uid", type=_uid, metavar="N", help="the user at the other end of a unix socket"
    )
    server = parser.add_argument_group("options of twistd sockserver")
    for flags, takes_value, told in _server_options():
        server.add_argument(
            *flags,
            dest="server",
            action=_Collect,
            nargs=None if takes_value else 0,
            metavar=flags[0].lstrip("-").upper() if takes_value else None,
            help=told.replace("%", "%%"),
        )
    parser.set_defaults(run=_explain, server=[])


class _Collect(Action):
    """Puts an option of the server aside, for the server's own parser."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        name = self.option_strings[0]
        given = f"{name}={values}" if isinstance(values, str) else name
        namespace.server = [*namespace.server, given]


def _server_options() -> list[tuple[list[str], bool, str]]:
    """The server's options: how each is written, whether it takes a value, and what it says."""
    found: list[tuple[list[str], bool, str]] = [
        ([f"--{name}", *([f"-{short}"] if short else [])], True, told or "")
        for name, short, _, told in Options.optParameters
    ]
    asked_for = ("help", "version")
    for name, function in vars(Options).items():
        option = name.removeprefix("opt_").replace("_", "-")
        if name.startswith("opt_") and not option.startswith(asked_for):
            takes_value = function.__code__.co_argcount > 1
            found.append(([f"--{option}"], takes_value, function.__doc__ or ""))
    return found


def _address(text: str) -> Address:
    if text == "unix":
        return Address("unix")
    try:
        return Address.ip(str(ip_address(text)), 0)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no address; write it like 203.0.113.9, 2001:db8::1 or unix"
        ) from None


def _uid(text: str) -> int:
    uid = int(text) if text.isdecimal() and len(text) <= 10 else -1
    if not 0 <= uid <= MOST_OF_A_UID:
        raise ArgumentTypeError(f"{text!r} is not a user id from 0 to {MOST_OF_A_UID}")
    return uid


def _explain(options: Namespace) -> int:
    address = options.address
    if options.uid is not None and address.family != "unix":
        raise ConfigurationError("--uid belongs to --from unix; other peers have no user here")
    server = Options()
    try:
        # Not the server's own parseOptions(), which would end the program as the server's does.
        usage.Options.parseOptions(server, options.server)
    except usage.UsageError as error:
        raise ConfigurationError(str(error)) from error
    except ConfigurationError as error:
        raise ConfigurationError(escaped(str(error))) from error
    for each in server.warnings:
        say(escaped(each))
    admission = AdmissionControl(server.policy_for(raise_descriptor_limit()))
    rows, refusing = explain(admission, address, uid=options.uid, tls=options.tls)
    if refusing is None:
        outcome = "would be served"
    elif server.dry_run:
        outcome = f"would be served, but only because this is a dry run; refused by {refusing}"
    else:
        outcome = f"would be refused by {refusing}"
    # At once, so that whoever reads only the beginning of it breaks nothing.
    print("\n".join([*_in_columns(rows), outcome, ""]), end="")
    return SERVED if refusing is None or server.dry_run else REFUSED


def explain(
    admission: AdmissionControl, address: Address, *, uid: int | None = None, tls: bool = False
) -> tuple[list[Row], str | None]:
    """
    Say what every rule would say about a peer right now.

    Returns:
        Rows of the rule, its verdict and the figures; and the rule that refuses, or None.
    """
    verdicts = admission.verdicts(address, uid=uid, tls=tls)
    rows = [
        ("source", "", admission.source_of(address, uid=uid)),
        *((each.rule, each.word, each.figures) for each in verdicts),
    ]
    # The first that refuses for sure is the last that is looked at.
    return rows, verdicts[-1].rule if verdicts and verdicts[-1].odds >= 1 else None


def _in_columns(rows: Sequence[Row]) -> list[str]:
    rule_width, word_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{rule:{rule_width}}  {word:{word_width}}  {told}" for rule, word, told in rows]
