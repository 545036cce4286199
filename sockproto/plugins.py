"""
How a name becomes a handshake or a session.

A plug-in string is ``NAME:ARG:key=value``, quoted as Twisted's endpoint strings are: a backslash
takes the character after it literally. ``NAME`` is, in this order,

- a built-in, from the tables at the end of this file (a bare checkout has no entry points);
- an entry point of an installed distribution, in the group ``sockproto.handshakes`` or
  ``sockproto.sessions``; it cannot take the name of a built-in;
- a module, and then its attribute follows: ``package.module:attribute:ARG:key=value``.

It leads to a class or function, which is called with the arguments, or to a finished object, which
takes none. How the arguments are read is the matter of :mod:`sockproto.signatures`.

One rule shapes every message: *an argument may be a secret*. A name that leads nowhere is told
without what follows it, since the "attribute" in ``passphrse:sesame`` is one; and of an error that
a constructor raises over a secret only the type is.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sockproto.core.errors import ConfigurationError, UnknownHandshake, UnknownSession
from sockproto.signatures import Arguments, Signature, cut, unquote

if TYPE_CHECKING:
    from twisted.internet.interfaces import IProtocolFactory

    from sockproto.core.handshake import Handshake

T = TypeVar("T")


@dataclass(frozen=True)
class Description:
    """
    What a plug-in is, for whoever has to choose one.

    Attributes:
        name: What to call it.
        usage: The name and the arguments, as in ``passphrase[:WORD][:file=PATH][:env=TEXT]``.
        summary: The first line of its docstring; may be empty.
    """

    name: str
    usage: str
    summary: str


@dataclass(frozen=True, eq=False)
class Blueprint(Generic[T]):
    """
    A plug-in string that was understood: the plug-in is found, the arguments are converted.

    Attributes:
        name: What the plug-in is called. Holds no arguments, so it may be shown.
        exposed: The names of the arguments that are secrets and stood in the string itself, where
            every user of the machine can read them.
    """

    name: str
    exposed: tuple[str, ...]
    _make: Callable[[], T] = field(repr=False)

    def build(self) -> T:
        """
        Make the handshake or the session factory.

        Raises:
            ConfigurationError: If the constructor fails, or makes something else.
        """
        return self._make()


def handshake_blueprint(text: str) -> Blueprint[Handshake]:
    """
    Understand a plug-in string, but call no constructor yet.

    Raises:
        UnknownHandshake: If the name leads nowhere.
        ConfigurationError: If the plug-in cannot be loaded, or does not take these arguments.
    """
    name, rest = cut(text, ":")
    if name == "chain" and rest is not None:
        return chain_blueprint([unquote(link) for link in _pieces(rest)])
    return _HANDSHAKES.blueprint(text)


def chain_blueprint(texts: Sequence[str]) -> Blueprint[Handshake]:
    """
    Understand one plug-in string, or several whose handshakes make a chain.

    Raises:
        ConfigurationError: As :func:`handshake_blueprint` does.
    """
    links = [handshake_blueprint(text) for text in texts]
    if len(links) == 1:
        return links[0]
    from sockproto.handshakes.chain import Chain

    exposed = tuple(secret for link in links for secret in link.exposed)
    return Blueprint("chain", exposed, lambda: Chain(*(link.build() for link in links)))


def session_blueprint(text: str) -> Blueprint[IProtocolFactory]:
    """
    Understand a plug-in string, but call no constructor yet.

    A Protocol class makes a factory, which passes the arguments to every protocol that it builds.

    Raises:
        UnknownSession: If the name leads nowhere.
        ConfigurationError: If the plug-in cannot be loaded, or does not take these arguments.
    """
    return _SESSIONS.blueprint(text)


def handshake_from_string(text: str) -> Handshake:
    """
    Make the handshake that a plug-in string asks for.

    It has ``serve``, ``connect`` or both; whoever needs a side has to look for it.

    Raises:
        ConfigurationError: As :func:`handshake_blueprint` and :meth:`Blueprint.build` do.
    """
    return handshake_blueprint(text).build()


def session_from_string(text: str) -> IProtocolFactory:
    """
    Make the session factory that a plug-in string asks for.

    Raises:
        ConfigurationError: As :func:`session_blueprint` and :meth:`Blueprint.build` do.
    """
    return session_blueprint(text).build()


def describe_handshakes() -> Sequence[Description]:
    """List the handshakes: built-in ones first. One that is broken is left out and logged."""
    return _HANDSHAKES.describe()


def describe_sessions() -> Sequence[Description]:
    """List the sessions: built-in ones first. One that is broken is left out and logged."""
    return _SESSIONS.describe()


def look_in_working_directory() -> None:
    """Let ``module:attribute`` name what lies in front of the operator, as uvicorn does."""
    # twistd does not look there, nor does a console script.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


@dataclass(frozen=True)
class _Catalogue(Generic[T]):
    """All plug-ins of one kind: where they are found, and what makes a thing one of them."""

    kind: str
    group: str
    builtins: Mapping[str, str]
    unknown: type[UnknownHandshake]
    call: Callable[..., object]
    accept: Callable[[object], T | None]
    lacks: str

    def blueprint(self, text: str) -> Blueprint[T]:
        match = re.fullmatch(r"([\w.-]+)(?::(.*))?", text, re.DOTALL)
        if match is None:
            name = re.split(r"[^\w.-]", text, maxsplit=1)[0]
            raise ConfigurationError(
                f"expected a {self.kind} as NAME:ARG:key=value, got {text[: len(name) + 1]!r}..."
            )
        name, rest = match.groups()
        if name in self.builtins:
            return self._load(self._builtin(name)).blueprint(rest)
        others = self._third_party()
        if name in others:
            return self._load(others[name]).blueprint(rest)
        known = [*self.builtins, *sorted(others)]
        if rest is None or not all(part.isidentifier() for part in name.split(".")):
            raise self.unknown(name, known)
        attribute, rest = cut(rest, ":")
        return self._import(name, attribute, known).blueprint(rest)

    def describe(self) -> list[Description]:
        others = self._third_party()
        entries = [*map(self._builtin, self.builtins), *(others[name] for name in sorted(others))]
        found = []
        for entry in entries:
            try:
                found.append(self._load(entry).describe())
            except ConfigurationError as error:
                _warn(f"entry point {entry.name!r} of {_origin(entry.dist)} is left out: {error}")
        return found

    def _builtin(self, name: str) -> EntryPoint:
        return EntryPoint(name=name, value=self.builtins[name], group=self.group)

    def _third_party(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        # Not entry_points(): one malformed file anywhere would hide them all.
        for distribution in distributions():
            try:
                entries = distribution.entry_points.select(group=self.group)
            except Exception as error:
                _warn(f"the entry points of {_origin(distribution)} are left out: {_told(error)}")
                continue
            for entry in entries:
                first = found.get(entry.name, entry)
                if entry.name in self.builtins:
                    trouble = f"that {self.kind} is built in"
                elif entry.value != first.value:
                    trouble = f"{_origin(first.dist)} has a {self.kind} of that name"
                else:
                    found[entry.name] = first
                    continue
                origin = _origin(distribution)
                _warn(f"entry point {entry.name!r} of {origin} is left out: {trouble}")
        return found

    def _load(self, entry: EntryPoint) -> _Plugin[T]:
        try:
            target = entry.load()
        except (Exception, SystemExit) as error:
            raise ConfigurationError(
                f"{self.kind} {entry.name!r} cannot be imported: {_told(error)}"
            ) from error
        return _Plugin(self, entry.name, target)

    def _import(self, module: str, attribute: str, known: Sequence[str]) -> _Plugin[T]:
        try:
            found: Any = import_module(module)
        except (Exception, SystemExit) as error:
            if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
                raise self.unknown(module, known, f"no module named {error.name!r}") from None
            raise ConfigurationError(
                f"{self.kind} module {module!r} exists, but cannot be imported: {_told(error)}"
            ) from error
        try:
            for part in attribute.split("."):
                found = getattr(found, part)
        except AttributeError:
            trouble = f"module {module!r} has no such attribute"
            raise self.unknown(module, known, trouble) from None
        except Exception as error:
            raise ConfigurationError(
                f"{self.kind} module {module!r} raised {type(error).__name__} over an attribute"
            ) from None
        return _Plugin(self, f"{module}:{attribute}", found)


class _Plugin(Generic[T]):
    """A class, a function or a finished object, as a catalogue has it."""

    def __init__(self, catalogue: _Catalogue[T], name: str, target: Any) -> None:
        self._catalogue, self._name, self._target = catalogue, name, target
        self._who = f"{catalogue.kind} {name!r}"
        try:
            finished = not isinstance(target, type) and catalogue.accept(target) is not None
            if not finished and not callable(target):
                raise ConfigurationError(f"{self._who} is {self._misfit(target)}")
            self._called = (lambda: target) if finished else target
            self._signature = Signature(catalogue.kind, name, self._called)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(f"{self._who} cannot be used: {_told(error)}") from error

    def describe(self) -> Description:
        # Not getdoc(): an inherited docstring tells of somebody else.
        text = self._target.__doc__
        lines = inspect.cleandoc(text).splitlines() if isinstance(text, str) else []
        return Description(self._name, self._signature.usage, lines[0] if lines else "")

    def blueprint(self, rest: str | None) -> Blueprint[T]:
        arguments = self._signature.read(rest)
        return Blueprint(self._name, arguments.exposed, partial(self._make, arguments))

    def _make(self, arguments: Arguments) -> T:
        try:
            made = self._catalogue.call(self._called, *arguments.args, **arguments.kwargs)
            product = self._catalogue.accept(made)
        except ConfigurationError:
            raise
        except Exception as error:
            if arguments.exposed:
                raise ConfigurationError(
                    f"{self._who} cannot be made: {type(error).__name__}, whose words are "
                    f"withheld since they may tell {' and '.join(arguments.exposed)}"
                ) from None
            raise ConfigurationError(f"{self._who} cannot be made: {_told(error)}") from error
        if product is None:
            raise ConfigurationError(f"{self._who} made {self._misfit(made)}")
        return product

    def _misfit(self, thing: object) -> str:
        return f"something of type {type(thing).__name__}, which {self._catalogue.lacks}"


def _pieces(text: str | None) -> Iterator[str]:
    """Cut at every colon that is not quoted."""
    while text is not None:
        piece, text = cut(text, ":")
        yield piece


def _told(error: BaseException) -> str:
    """Name an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _origin(distribution: Distribution | None) -> str:
    if distribution is None:
        return "sockproto"
    try:
        return f"distribution {distribution.metadata['Name']!r}"
    except Exception:
        return "a distribution without a name"


def _warn(line: str) -> None:
    from twisted.logger import Logger

    Logger("sockproto.plugins").warn("{line}", line=line)


def _as_handshake(made: Any) -> Handshake | None:
    sides = (getattr(made, side, None) for side in ("serve", "connect"))
    return made if not isinstance(made, type) and any(map(callable, sides)) else None


def _as_session(made: Any) -> IProtocolFactory | None:
    if _is_protocol_class(made):
        return _quietly(made)
    methods = (getattr(made, name, None) for name in ("buildProtocol", "doStart", "doStop"))
    return made if not isinstance(made, type) and all(map(callable, methods)) else None


def _call_session(target: Any, *args: Any, **kwargs: Any) -> object:
    if not _is_protocol_class(target):
        return target(*args, **kwargs)
    return _quietly(lambda: target(*args, **kwargs)) if args or kwargs else target


def _quietly(build: Callable[[], Any]) -> IProtocolFactory:
    """A factory that does not say in the log when it starts and stops."""
    from twisted.internet.protocol import Factory

    factory = Factory.forProtocol(build)
    factory.noisy = False
    return factory


def _is_protocol_class(thing: object) -> bool:
    from twisted.internet.interfaces import IProtocol

    return isinstance(thing, type) and IProtocol.implementedBy(thing)


_HANDSHAKES: _Catalogue[Handshake] = _Catalogue(
    kind="handshake",
    group="sockproto.handshakes",
    builtins={
        "welcome": "sockproto.handshakes.welcome:Welcome",
        "passphrase": "sockproto.handshakes.passphrase:Passphrase",
        "token": "sockproto.handshakes.token:Token",
        "challenge": "sockproto.handshakes.challenge:Challenge",
        "scram": "sockproto.handshakes.scram:Scram",
        "cred": "sockproto.handshakes.cred:Cred",
        "certificate": "sockproto.handshakes.certificate:Certificate",
        "jwt": "sockproto.handshakes.jwt:Jwt",
        "negotiate": "sockproto.handshakes.negotiate:Negotiate",
        "none": "sockproto.handshakes.none:NoHandshake",
        "chain": "sockproto.handshakes.chain:Chain",
    },
    unknown=UnknownHandshake,
    call=lambda target, *args, **kwargs: target(*args, **kwargs),
    accept=_as_handshake,
    lacks="has neither serve nor connect",
)

_SESSIONS: _Catalogue[IProtocolFactory] = _Catalogue(
    kind="session",
    group="sockproto.sessions",
    builtins={
        "echo": "sockproto.sessions.echo:Echo",
        "discard": "sockproto.sessions.discard:Discard",
        "forward": "sockproto.sessions.forward:Forward",
    },
    unknown=UnknownSession,
    call=_call_session,
    accept=_as_session,
    lacks="is neither a Protocol class nor a factory with buildProtocol, doStart and doStop",
)
