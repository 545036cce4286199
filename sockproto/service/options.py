"""The command line of ``twistd sockserver``."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from math import inf
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from sockproto._version import __version__
from sockproto.admission.networks import Networks
from sockproto.admission.policy import Policy
from sockproto.core.errors import ConfigurationError
from sockproto.handshakes.welcome import Welcome
from sockproto.limits import Limits
from sockproto.plugins import (
    Description,
    chain_blueprint,
    describe_handshakes,
    describe_sessions,
    handshake_blueprint,
    look_in_working_directory,
    session_blueprint,
)
from sockproto.service.escaping import escaped
from sockproto.service.policy import POLICY_OPTIONS, policy_of
from sockproto.service.settings import PREFIX, Setting, gather
from sockproto.service.units import seconds, show_seconds, show_size, size, switch, whole
from sockproto.signatures import cut
from sockproto.transport.proxy import ProxyPolicy, Version

DEFAULT_LISTEN = "tcp:8001:interface=127.0.0.1"
DEFAULT_BACKLOG = 4096
DEFAULT_HANDSHAKE = "welcome"
DEFAULT_PROXY_PROTOCOL = "off"
DEFAULT_ACCESS_LOG = "-"
DEFAULT_UDP_MAX_AMPLIFICATION = 1.0

_LIMITS = {each.name.replace("_", "-"): each for each in fields(Limits)}
_READ: dict[str, Callable[[str], float]] = {"seconds": seconds, "bytes": size}
_SHOW: dict[str, Callable[[Any], str]] = {"seconds": show_seconds, "bytes": show_size}

_REPEATABLE = ("listen", "session", "handshake")
_UNPARTED = ("handshake",)
"""A word may have a blank in it; in the environment, several are written as a chain."""
_NAMES = (
    *_REPEATABLE,
    "backlog",
    "proxy-protocol",
    "proxy-allow-from",
    "access-log",
    "udp-max-amplification",
    *_LIMITS,
    *POLICY_OPTIONS,
    "dry-run",
)
_SWITCHES = ("penalties", "dry-run")


class Options(usage.Options):
    """
    What the operator wants. A mistake ends the program with one line and status 1.

    Attributes:
        listen: Endpoint strings.
        backlog: How many clients the kernel keeps waiting.
        handshake: The handshake, ready to use.
        session: The sessions by name, ready to use, or None.
        limits: The bounds.
        proxy: Who has to say first whose connection it is, or None.
        dry_run: Whether everybody is served, and only logged who would have been refused.
        udp_max_amplification: How many bytes are answered over UDP to one.
        access_log: Where the line of each connection goes: a file, ``-`` for the log, or ``off``.
        try_it: What ``sockproto connect`` needs to be told besides the endpoint.
        warnings: What the operator should know, one sentence each.
    """

    synopsis = "[options]"
    longdesc = (
        "Serves a handshake on each --listen endpoint. Whoever it accepts is handed to --session, "
        "or gets the reply and is let go. Times are written 5, 500ms, 10s, 2m; sizes 16k. "
        "Every option can also be set in the environment, as SOCKSERVER_IDLE_TIMEOUT, or in a TOML "
        "file named by --config; the command line wins, then the environment."
    )
    optParameters: ClassVar = [
        ["config", "c", None, "A TOML file with settings, named like the options."],
        ["backlog", "b", None, f"Clients that may wait to be accepted. [{DEFAULT_BACKLOG}]"],
        [
            "proxy-protocol",
            None,
            None,
            f"A PROXY header that comes first: off, v1, v2 or auto. [{DEFAULT_PROXY_PROTOCOL}]",
        ],
        [
            "proxy-allow-from",
            None,
            None,
            "The proxies that are believed: 10.0.0.0/8,192.0.2.1. [none]",
        ],
        [
            "access-log",
            None,
            None,
            "A line for each connection: to a FILE, to the log with -, or off. "
            f"[{DEFAULT_ACCESS_LOG}]",
        ],
        [
            "udp-max-amplification",
            None,
            None,
            "Bytes that are answered over UDP to one that was sent, except on loopback. "
            f"[{DEFAULT_UDP_MAX_AMPLIFICATION:g}]",
        ],
        *(
            [
                name,
                None,
                None,
                f"{each.metadata['help']} [{_SHOW[each.metadata['unit']](each.default)}]",
            ]
            for name, each in _LIMITS.items()
        ),
        *(
            [name, None, None, f"{each.help} [{each.default}]"]
            for name, each in POLICY_OPTIONS.items()
        ),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}
        self.listen: tuple[str, ...] = (DEFAULT_LISTEN,)
        self.backlog = DEFAULT_BACKLOG
        self.handshake: Any = None
        self.session: dict[str, Any] | None = None
        self.limits = Limits()
        self.proxy: ProxyPolicy | None = None
        self.dry_run = False
        self._policy: dict[str, Any] = {}
        self.access_log = DEFAULT_ACCESS_LOG
        self.udp_max_amplification = DEFAULT_UDP_MAX_AMPLIFICATION
        self.try_it = ""
        self.warnings: list[str] = []

    def opt_listen(self, description: str) -> None:
        """An endpoint to listen on; can be given again. [tcp:8001:interface=127.0.0.1]"""
        self._repeated.setdefault("listen", []).append(description)

    def opt_handshake(self, text: str) -> None:
        """NAME[:ARGS] or MODULE:ATTRIBUTE[:ARGS]; again, for one after the other. [welcome]"""
        self._repeated.setdefault("handshake", []).append(text)

    def opt_session(self, text: str) -> None:
        """NAME[:ARGS] or MODULE:FACTORY; again as NAME=SPEC, for handshakes that choose. [none]"""
        self._repeated.setdefault("session", []).append(text)

    def opt_dry_run(self) -> None:
        """Serve everybody, and log who would have been refused, and by which rule."""
        self._repeated["dry-run"] = ["on"]

    def opt_help_handshakes(self) -> NoReturn:
        """List the handshakes and exit."""
        _show(describe_handshakes())

    def opt_help_sessions(self) -> NoReturn:
        """List the sessions and exit."""
        _show(describe_sessions())

    def opt_version(self) -> NoReturn:
        """Show the versions of sockproto and what it runs on, and exit."""
        from twisted.internet import reactor

        import twisted

        print(
            f"sockproto {__version__}, Twisted {twisted.__version__}, "
            f"Python {platform.python_version()}, {type(reactor).__name__}"
        )
        sys.exit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Refuse what is no option."""
        if arguments:
            if "handshake" in self._repeated or "session" in self._repeated:
                # It may be the rest of a secret that has a blank in it.
                raise usage.UsageError("something is left over; quote an argument with blanks")
            # Nor is it shown whole: it may be a handshake with a secret, without its --handshake.
            raise usage.UsageError(f"{cut(arguments[0], ':')[0]!r} is no option")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line.

        Raises:
            SystemExit: With one line, for a mistake. Twisted's own way would print the whole usage.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"sockserver: {escaped(str(error))}; see --help") from error
        except ConfigurationError as error:
            raise SystemExit(f"sockserver: {escaped(str(error))}") from error

    def postOptions(self) -> None:
        """Resolve every setting."""
        given: dict[str, Sequence[str]] = {
            name: [self[name]] for name in _NAMES if self.get(name) is not None
        }
        given.update(self._repeated)
        file = self["config"]
        if file is None:
            file = os.environ.get(f"{PREFIX}CONFIG") or None
        elif not file:
            # Perhaps "--config=$FILE", and no FILE. The defaults would let everybody in.
            raise ConfigurationError("--config is empty; name a TOML file")
        settings = gather(_NAMES, _REPEATABLE, given, os.environ, file, _SWITCHES, _UNPARTED)
        if "listen" in settings:
            self.listen = settings["listen"].values
            if not self.listen or not all(self.listen):
                raise ConfigurationError(
                    f"{settings['listen'].source} is empty; name an endpoint like {DEFAULT_LISTEN}"
                )
        if "backlog" in settings:
            self.backlog = _one(settings["backlog"], whole)
        self.limits = Limits(
            **{
                each.name: _one(settings[name], _READ[each.metadata["unit"]])
                for name, each in _LIMITS.items()
                if name in settings
            }
        )
        if "access-log" in settings:
            self.access_log = _one(settings["access-log"], _text)
        if "udp-max-amplification" in settings:
            self.udp_max_amplification = _one(settings["udp-max-amplification"], _ratio)
        for name, each in POLICY_OPTIONS.items():
            if name in settings:
                self._policy |= _one(settings[name], each.read)
        if "dry-run" in settings:
            self.dry_run = _one(settings["dry-run"], switch)
        if self.dry_run:
            self.warnings.append("this is a dry run: nobody is refused, and no limit holds")
        self._set_proxy(settings.get("proxy-protocol"), settings.get("proxy-allow-from"))
        look_in_working_directory()
        self._build_handshake(settings.get("handshake", Setting((DEFAULT_HANDSHAKE,), "")))
        self._build_sessions(settings.get("session", Setting((), "")))

    def policy_for(self, descriptors: int) -> Policy:
        """Who may start, in a process that may have so many descriptors."""
        return policy_of(self._policy, descriptors)

    def _set_proxy(self, protocol: Setting | None, allow_from: Setting | None) -> None:
        version = None if protocol is None else _one(protocol, _version)
        networks = Networks() if allow_from is None else _one(allow_from, Networks.parse)
        if protocol is None or version is None:
            if networks and allow_from is not None:
                self.warnings.append(
                    f"{allow_from.source} is set, but no PROXY header is read; "
                    "say --proxy-protocol v1, v2 or auto as well"
                )
            return
        if not networks:
            raise ConfigurationError(
                f"{protocol.source} is {protocol.values[0]}, but nobody's header is believed; name "
                "the proxies with --proxy-allow-from, like 10.0.0.0/8,192.0.2.1"
            )
        self.proxy = ProxyPolicy(version, networks)

    def _build_handshake(self, setting: Setting) -> None:
        if not setting.values:
            raise ConfigurationError(
                f"{setting.source} is empty; name a handshake like {DEFAULT_HANDSHAKE}"
            )
        blueprint = chain_blueprint(setting.values)
        if setting.on_command_line and blueprint.exposed:
            self._warn_of_secret(f"handshake {blueprint.name}")
        self.handshake = blueprint.build()
        shown = list(setting.values)
        if not isinstance(self.handshake, Welcome):
            # Its arguments may be secrets; those of Welcome are not.
            shown = [_without_arguments(text) for text in shown]
        told = shown != [DEFAULT_HANDSHAKE]
        options = " ".join(f"--handshake {shlex.quote(each)}" for each in shown)
        self.try_it = options if told else "--send 1"
        if not callable(getattr(self.handshake, "serve", None)):
            raise ConfigurationError(f"handshake {blueprint.name} has no server's side")

    def _build_sessions(self, setting: Setting) -> None:
        sessions = {}
        for text in setting.values:
            # The name of a session, not of an argument: those come after a colon.
            named = re.fullmatch(r"([\w./-]+)=(.*)", text, re.DOTALL)
            name, spec = named.groups() if named else ("", text)
            if name in sessions:
                which = f"session {name}" if name else "session without a name"
                raise ConfigurationError(f"a second {which}; write --session NAME=SPEC")
            blueprint = session_blueprint(spec)
            if setting.on_command_line and blueprint.exposed:
                self._warn_of_secret(f"session {blueprint.name}")
            sessions[name] = blueprint.build()
        self.session = sessions or None

    def _warn_of_secret(self, whose: str) -> None:
        self.warnings.append(
            f"the secret of {whose} stands on the command line, where every user of this machine "
            "can read it; put it into a file or the environment"
        )


def _one(setting: Setting, read: Callable[[str], Any]) -> Any:
    try:
        return read(setting.values[0])
    except (ValueError, ConfigurationError) as error:
        raise ConfigurationError(f"{setting.source}: {error}") from error


def _without_arguments(text: str) -> str:
    name = handshake_blueprint(text).name
    return text if text == name else f"{name}:..."


def _text(text: str) -> str:
    if not text:
        raise ValueError("a name is missing; name a file, or write - or off")
    return text


def _ratio(text: str) -> float:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) and 0 < float(text) < inf:
        return float(text)
    raise ValueError(f"{text!r} is no ratio; give a number above 0, like 1 or 18")


def _version(text: str) -> Version | None:
    versions: dict[str, Version | None] = {"off": None, "v1": "v1", "v2": "v2", "auto": "auto"}
    if text not in versions:
        raise ValueError(f"{text!r} is not off, v1, v2 or auto")
    return versions[text]


def _show(descriptions: Sequence[Description]) -> NoReturn:
    for each in descriptions:
        print(f"{each.usage}\n    {each.summary}")
    sys.exit(0)
