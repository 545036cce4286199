"""
How a name becomes a handshake or a session.

A plug-in string is ``NAME:ARG:key=value``, quoted as Twisted's endpoint strings are: a backslash
takes the character after it literally. ``NAME`` is, in this order,

- a built-in, from the tables at the end of this file (a bare checkout has no entry points);
- an entry point of an installed distribution, in the group ``sockproto.handshakes`` or
  ``sockproto.sessions``; it cannot take the name of a built-in;
- a module, and then its attribute follows: ``package.module:attribute:ARG:key=value``.

It leads to a class or function, which is called with the arguments, or to a finished object, which
takes none. Annotations say what the arguments are: ``str`` (so is one without), ``bytes``, ``int``,
``float``, ``bool`` and ``Path``, each also with ``| None``, and :data:`sockproto.Secret` and
:data:`sockproto.Endpoint`. An equals sign starts a keyword only after the name of a parameter, so
that ``c2VzYW1l==`` is one argument; the price is that a misspelt keyword is an argument as well.

One rule shapes every message: *an argument may be a secret*. A name that leads nowhere is told
without what follows it, since the "attribute" in ``passphrse:sesame`` is one; the arguments of a
plug-in that takes a secret are never repeated; and of an error raised over one only the type is.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from sockproto.core.arguments import ENDPOINT, SECRET
from sockproto.core.errors import ConfigurationError, UnknownHandshake, UnknownSession

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
    return _HANDSHAKES.blueprint(text)


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
        attribute, rest = _cut(rest, ":")
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
    """A class, a function or a finished object, and how it is called from a string."""

    def __init__(self, catalogue: _Catalogue[T], name: str, target: Any) -> None:
        self._catalogue, self._name, self._target = catalogue, name, target
        self._who = f"{catalogue.kind} {name!r}"
        self._signature = inspect.Signature()
        try:
            self._finished = not isinstance(target, type) and catalogue.accept(target) is not None
            if not self._finished and callable(target):
                self._signature = inspect.signature(target, eval_str=True)
        except Exception as error:
            raise ConfigurationError(f"{self._who} cannot be used: {_told(error)}") from error
        if not self._finished and not callable(target):
            raise ConfigurationError(f"{self._who} is {self._misfit(target)}")
        self._parameters = [
            _Parameter.read(parameter)
            for parameter in self._signature.parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        self._secretive = any(parameter.secret for parameter in self._parameters)
        for parameter in self._parameters:
            if parameter.required and parameter.form is None:
                raise ConfigurationError(f"{self._who} cannot be used: {parameter.unwritable()}")

    def describe(self) -> Description:
        # Not getdoc(): an inherited docstring tells of somebody else.
        text = self._target.__doc__
        lines = inspect.cleandoc(text).splitlines() if isinstance(text, str) else []
        return Description(self._name, self._usage(), lines[0] if lines else "")

    def blueprint(self, rest: str | None) -> Blueprint[T]:
        given = self._read(rest)
        missing = [p.name for p in self._parameters if p.required and p.name not in given]
        if missing:
            raise ConfigurationError(
                f"{self._who} needs {' and '.join(missing)}; write {self._usage()}"
            )
        exposed = tuple(p.name for p in self._parameters if p.secret and p.name in given)
        bound = self._signature.bind_partial()
        bound.arguments.update(given)
        return Blueprint(self._name, exposed, lambda: self._make(bound, exposed))

    def _make(self, bound: inspect.BoundArguments, exposed: Sequence[str]) -> T:
        made = self._target
        try:
            if not self._finished:
                made = self._catalogue.call(self._target, *bound.args, **bound.kwargs)
            product = self._catalogue.accept(made)
        except ConfigurationError:
            raise
        except Exception as error:
            if exposed:
                raise ConfigurationError(
                    f"{self._who} cannot be made: {type(error).__name__}, "
                    f"whose words are withheld since they may tell {' and '.join(exposed)}"
                ) from None
            raise ConfigurationError(f"{self._who} cannot be made: {_told(error)}") from error
        if product is None:
            raise ConfigurationError(f"{self._who} made {self._misfit(made)}")
        return product

    def _misfit(self, thing: object) -> str:
        return f"something of type {type(thing).__name__}, which {self._catalogue.lacks}"

    def _usage(self) -> str:
        first = self._parameters[:1]
        return "".join([self._name, *(p.usage(first=p in first) for p in self._parameters)])

    def _read(self, rest: str | None) -> dict[str, object]:
        """Assign the pieces of a string to the parameters, and convert them."""
        if rest is not None and (len(rest) - len(rest.rstrip("\\"))) % 2:
            raise ConfigurationError(
                f"{self._who} ends in a backslash that quotes nothing; write two to mean one"
            )
        named = {p.name: p for p in self._parameters if p.named}
        unnamed = [p for p in self._parameters if p.unnamed]
        places = iter(unnamed)
        given: dict[str, object] = {}
        while rest is not None:
            piece, after = _cut(rest, ":")
            key, value = _cut(piece, "=")
            parameter, start = None, 0
            if value is not None and key in named:
                parameter, start = named[key], len(key) + 1
            else:
                parameter = next(places, None)
            if parameter is None:
                raise self._surplus(key if value is not None else "", len(unnamed))
            if parameter.name in given:
                raise ConfigurationError(f"{self._who} is given {parameter.name!r} twice")
            if parameter.form is _ENDPOINT:
                text, rest = rest[start:], None
            else:
                text, rest = _unquote(piece[start:]), after
            given[parameter.name] = self._convert(parameter, text)
        return given

    def _surplus(self, key: str, most: int) -> ConfigurationError:
        names = ", ".join(p.name for p in self._parameters if p.form)
        if not names:
            return ConfigurationError(f"{self._who} takes no arguments")
        if key.isidentifier() and not self._secretive:
            return ConfigurationError(
                f"{self._who} takes no argument named {key!r}; its arguments are {names}"
            )
        return ConfigurationError(
            f"{self._who} takes at most {most} arguments without a name; write {self._usage()}"
        )

    def _convert(self, parameter: _Parameter, text: str) -> object:
        if parameter.form is None:
            raise ConfigurationError(f"{self._who} is misused: {parameter.unwritable()}")
        try:
            return parameter.form.convert(text)
        except (ValueError, KeyError):
            pass
        # Outside the except clause: the error holds the text, and would be chained to ours.
        shown = f", got {text!r}" if parameter.form.harmless and not self._secretive else ""
        raise ConfigurationError(
            f"{self._who} needs {parameter.form.words} as {parameter.name!r}{shown}"
        )


class _Form(NamedTuple):
    """How a type is written in a string."""

    sign: str
    words: str
    convert: Callable[[str], object]
    harmless: bool = False


@dataclass(frozen=True)
class _Parameter:
    """One parameter of a constructor, as a string sees it."""

    name: str
    required: bool
    named: bool
    unnamed: bool
    form: _Form | None
    secret: bool

    @classmethod
    def read(cls, parameter: inspect.Parameter) -> _Parameter:
        annotation, marks = _peel(parameter.annotation)
        form = _FORMS.get(annotation) if isinstance(annotation, type) else None
        return cls(
            name=parameter.name,
            required=parameter.default is parameter.empty,
            named=parameter.kind is not parameter.POSITIONAL_ONLY,
            unnamed=parameter.kind is not parameter.KEYWORD_ONLY,
            form=_ENDPOINT if any(mark is ENDPOINT for mark in marks) else form,
            secret=any(mark is SECRET for mark in marks),
        )

    def usage(self, first: bool) -> str:
        if self.form is None:
            return ""
        by_place = self.unnamed and (first or self.required or not self.named)
        word = self.name.upper() if by_place else f"{self.name}={self.form.sign}"
        return f":{word}" if self.required else f"[:{word}]"

    def unwritable(self) -> str:
        return f"its argument {self.name!r} cannot be written in a string"


def _peel(annotation: Any) -> tuple[Any, list[object]]:
    """Take ``Annotated`` and ``| None`` off an annotation, and keep the marks."""
    marks: list[object] = []
    while True:
        if get_origin(annotation) is Annotated:
            marks += annotation.__metadata__
            annotation = annotation.__origin__
        elif get_origin(annotation) in (Union, UnionType):
            real = [option for option in get_args(annotation) if option is not NoneType]
            if len(real) > 1:
                return annotation, marks
            annotation = real[0]
        else:
            return annotation, marks


def _to_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError
    return number


def _filled(text: str) -> str:
    if not text:
        raise ValueError
    return text


_SWITCH = {
    **dict.fromkeys(("on", "yes", "true", "1"), True),
    **dict.fromkeys(("off", "no", "false", "0"), False),
}

_TEXT = _Form("TEXT", "text", str)
_ENDPOINT = _Form("ENDPOINT", "an endpoint", _filled)

_FORMS: dict[object, _Form] = {
    inspect.Parameter.empty: _TEXT,
    str: _TEXT,
    # surrogateescape: the bytes of a command line come through, whatever they are.
    bytes: _Form("TEXT", "text", lambda text: text.encode("utf-8", "surrogateescape")),
    int: _Form("INT", "a whole number", int, harmless=True),
    float: _Form("NUMBER", "a finite number", _to_float, harmless=True),
    bool: _Form("on|off", "on or off", lambda text: _SWITCH[text.lower()], harmless=True),
    # Path("") is the working directory, which nobody means by "file=".
    Path: _Form("PATH", "a path", lambda text: Path(_filled(text))),
}


def _cut(text: str, mark: str) -> tuple[str, str | None]:
    """Cut at the first mark that is not quoted; without one there is no second part."""
    match = re.match(rf"((?:\\.|[^\\{mark}])*){mark}(.*)", text, re.DOTALL)
    return (match[1], match[2]) if match else (text, None)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


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
    from twisted.internet.protocol import Factory

    if _is_protocol_class(made):
        return Factory.forProtocol(made)
    methods = (getattr(made, name, None) for name in ("buildProtocol", "doStart", "doStop"))
    return made if not isinstance(made, type) and all(map(callable, methods)) else None


def _call_session(target: Any, *args: Any, **kwargs: Any) -> object:
    from twisted.internet.protocol import Factory

    if not _is_protocol_class(target):
        return target(*args, **kwargs)
    return Factory.forProtocol(lambda: target(*args, **kwargs)) if args or kwargs else target


def _is_protocol_class(thing: object) -> bool:
    from twisted.internet.interfaces import IProtocol

    return isinstance(thing, type) and IProtocol.implementedBy(thing)


_HANDSHAKES: _Catalogue[Handshake] = _Catalogue(
    kind="handshake",
    group="sockproto.handshakes",
    builtins={
        "welcome": "sockproto.handshakes.welcome:Welcome",
        "passphrase": "sockproto.handshakes.passphrase:Passphrase",
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
    },
    unknown=UnknownSession,
    call=_call_session,
    accept=_as_session,
    lacks="is neither a Protocol class nor a factory with buildProtocol, doStart and doStop",
)
