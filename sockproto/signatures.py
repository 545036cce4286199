"""
How a string calls a constructor.

What follows the name of a plug-in is ``ARG:key=value``, quoted as Twisted's endpoint strings are: a
backslash takes the character after it literally. A :class:`Signature` is what a class or function
takes, and reads such a string into :class:`Arguments`.

Annotations say what the arguments are: ``str`` (so is one without), ``bytes``, ``int``, ``float``,
``bool`` and ``Path``, each also with ``| None``, and :data:`sockproto.Secret` and
:data:`sockproto.Endpoint`. An equals sign starts a keyword only after the name of a parameter, so
that ``c2VzYW1l==`` is one argument; the price is that a misspelt keyword is an argument as well.

One rule shapes every message: *an argument may be a secret*. Where a parameter is one, no argument
is repeated, and no error is chained to ours that might tell it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from sockproto.core.arguments import ENDPOINT, SECRET
from sockproto.core.errors import ConfigurationError


@dataclass(frozen=True)
class Arguments:
    """
    What a string says, converted; to be called with.

    Attributes:
        exposed: The names of the secrets among them.
    """

    exposed: tuple[str, ...]
    args: tuple[Any, ...] = field(repr=False)
    kwargs: Mapping[str, Any] = field(repr=False)


class Signature:
    """
    What a class or function takes, as far as a string can say it.

    Args:
        kind: What messages call it: ``handshake``.
        name: What the string calls it: ``passphrase``.
        target: The class or function.

    Attributes:
        usage: How to write a call: ``passphrase[:WORD][:file=PATH][:env=TEXT]``.

    Raises:
        ConfigurationError: If it needs an argument that no string can hold.
        Exception: As :func:`inspect.signature` raises it.
    """

    def __init__(self, kind: str, name: str, target: Callable[..., object]) -> None:
        self._who = f"{kind} {name!r}"
        self._signature = inspect.signature(target, eval_str=True)
        self._parameters = [
            _Parameter.read(parameter)
            for parameter in self._signature.parameters.values()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        self._secretive = any(parameter.secret for parameter in self._parameters)
        for parameter in self._parameters:
            if parameter.required and parameter.form is None:
                raise ConfigurationError(f"{self._who} cannot be used: {parameter.unwritable}")
        first = self._parameters[:1]
        # An endpoint takes the raw rest, so it is written last.
        shown = sorted(self._parameters, key=lambda p: p.form is _ENDPOINT)
        self.usage = "".join([name, *(p.usage(first=p in first) for p in shown)])

    def read(self, text: str | None) -> Arguments:
        """
        Assign the pieces of a string to the parameters, and convert them.

        Args:
            text: What follows the name and its colon; None if nothing does.

        Raises:
            ConfigurationError: If they do not fit.
        """
        given = self._assign(text)
        missing = [p.name for p in self._parameters if p.required and p.name not in given]
        if missing:
            raise ConfigurationError(
                f"{self._who} needs {' and '.join(missing)}; write {self.usage}"
            )
        bound = self._signature.bind_partial()
        bound.arguments.update(given)
        exposed = tuple(p.name for p in self._parameters if p.secret and p.name in given)
        return Arguments(exposed, bound.args, bound.kwargs)

    def _assign(self, rest: str | None) -> dict[str, object]:
        if rest is not None and (len(rest) - len(rest.rstrip("\\"))) % 2:
            raise ConfigurationError(
                f"{self._who} ends in a backslash that quotes nothing; write two to mean one"
            )
        named = {p.name: p for p in self._parameters if p.named}
        unnamed = [p for p in self._parameters if p.unnamed]
        places = iter(unnamed)
        given: dict[str, object] = {}
        while rest is not None:
            piece, after = cut(rest, ":")
            key, value = cut(piece, "=")
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
                text, rest = unquote(piece[start:]), after
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
            f"{self._who} takes at most {most} arguments without a name; write {self.usage}"
        )

    def _convert(self, parameter: _Parameter, text: str) -> object:
        if parameter.form is None:
            raise ConfigurationError(f"{self._who} is misused: {parameter.unwritable}")
        try:
            return parameter.form.convert(text)
        except (ValueError, KeyError):
            pass
        # Outside the except clause: the error holds the text, and would be chained to ours.
        shown = f", got {text!r}" if parameter.form.harmless and not self._secretive else ""
        raise ConfigurationError(
            f"{self._who} needs {parameter.form.words} as {parameter.name!r}{shown}"
        )


def cut(text: str, mark: str) -> tuple[str, str | None]:
    """Cut at the first mark that is not quoted; without one there is no second part."""
    match = re.match(rf"((?:\\.|[^\\{mark}])*){mark}(.*)", text, re.DOTALL)
    return (match[1], match[2]) if match else (text, None)


def unquote(text: str) -> str:
    """Take the quoting off."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


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

    @property
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
