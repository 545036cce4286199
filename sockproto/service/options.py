"""The command line of ``twistd sockserver``."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar, NoReturn

from twisted.python import usage

from sockproto._version import __version__
from sockproto.core.errors import ConfigurationError
from sockproto.handshakes.welcome import Welcome
from sockproto.limits import Limits
from sockproto.plugins import (
    Description,
    describe_handshakes,
    describe_sessions,
    handshake_blueprint,
    look_in_working_directory,
    session_blueprint,
)
from sockproto.service.settings import PREFIX, Setting, gather
from sockproto.service.units import seconds, show_seconds, show_size, size, whole

DEFAULT_LISTEN = "tcp:8001:interface=127.0.0.1"
DEFAULT_BACKLOG = 4096
DEFAULT_HANDSHAKE = "welcome"

_LIMITS = {each.name.replace("_", "-"): each for each in fields(Limits)}
_READ: dict[str, Callable[[str], float]] = {"seconds": seconds, "bytes": size}
_SHOW: dict[str, Callable[[Any], str]] = {"seconds": show_seconds, "bytes": show_size}

_REPEATABLE = ("listen", "session")
_NAMES = (*_REPEATABLE, "backlog", "handshake", *_LIMITS)


class Options(usage.Options):
    """
    What the operator wants. A mistake ends the program with one line and status 1.

    Attributes:
        listen: Endpoint strings.
        backlog: How many clients the kernel keeps waiting.
        handshake: The handshake, ready to use.
        session: The sessions by name, ready to use, or None.
        limits: The bounds.
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
            "handshake",
            None,
            None,
            f"NAME[:ARGS] or MODULE:ATTRIBUTE[:ARGS]. [{DEFAULT_HANDSHAKE}]",
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
    ]

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[str, list[str]] = {}
        self.listen: tuple[str, ...] = (DEFAULT_LISTEN,)
        self.backlog = DEFAULT_BACKLOG
        self.handshake: Any = None
        self.session: dict[str, Any] | None = None
        self.limits = Limits()
        self.try_it = ""
        self.warnings: list[str] = []

    def opt_listen(self, description: str) -> None:
        """An endpoint to listen on; can be given again. [tcp:8001:interface=127.0.0.1]"""
        self._repeated.setdefault("listen", []).append(description)

    def opt_session(self, text: str) -> None:
        """NAME[:ARGS] or MODULE:FACTORY; again as NAME=SPEC, for handshakes that choose. [none]"""
        self._repeated.setdefault("session", []).append(text)

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
            if self["handshake"] or "session" in self._repeated:
                # It may be the rest of a secret that has a blank in it.
                raise usage.UsageError("something is left over; quote an argument with blanks")
            raise usage.UsageError(f"{arguments[0]!r} is no option")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line.

        Raises:
            SystemExit: With one line, for a mistake. Twisted's own way would print the whole usage.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"sockserver: {error}; see --help") from error
        except ConfigurationError as error:
            raise SystemExit(f"sockserver: {error}") from error

    def postOptions(self) -> None:
        """Resolve every setting."""
        given: dict[str, Sequence[str]] = {
            name: [self[name]] for name in _NAMES if self.get(name) is not None
        }
        given.update(self._repeated)
        file = self["config"] or os.environ.get(f"{PREFIX}CONFIG") or None
        settings = gather(_NAMES, _REPEATABLE, given, os.environ, file)
        if "listen" in settings:
            self.listen = settings["listen"].values
            if not self.listen:
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
        look_in_working_directory()
        self._build_handshake(settings.get("handshake", Setting((DEFAULT_HANDSHAKE,), "")))
        self._build_sessions(settings.get("session", Setting((), "")))

    def _build_handshake(self, setting: Setting) -> None:
        text = setting.values[0]
        blueprint = handshake_blueprint(text)
        if setting.on_command_line and blueprint.exposed:
            self._warn_of_secret(f"handshake {blueprint.name}")
        self.handshake = blueprint.build()
        # Its arguments may be secrets; those of Welcome are not.
        shown = text if text == blueprint.name else f"{blueprint.name}:..."
        if isinstance(self.handshake, Welcome):
            shown = text
        told = shown != DEFAULT_HANDSHAKE
        self.try_it = f"--handshake {shlex.quote(shown)}" if told else "--send 1"
        if not callable(getattr(self.handshake, "serve", None)):
            raise ConfigurationError(f"handshake {blueprint.name} has no server's side")

    def _build_sessions(self, setting: Setting) -> None:
        sessions = {}
        for text in setting.values:
            # The name of a session, not of an argument: those come after a colon.
            named = re.fullmatch(r"([\w-]+)=(.*)", text, re.DOTALL)
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
    except ValueError as error:
        raise ConfigurationError(f"{setting.source}: {error}") from error


def _show(descriptions: Sequence[Description]) -> NoReturn:
    for each in descriptions:
        print(f"{each.usage}\n    {each.summary}")
    sys.exit(0)
