"""What a handshake looks like from outside, before anybody has said a word."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

from sockproto.core.errors import ConfigurationError
from sockproto.core.exchange import Exchange
from sockproto.plugins import handshake_blueprint
from sockproto.signatures import Signature
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.subject import Subject

_SECRET_WORDS = ("password", "passphrase", "passwd", "secret")


@check("face")
def has_a_side(subject: Subject) -> Iterator[Case]:
    """It has ``serve``, ``connect`` or both, and each can be called with a peer alone."""

    def look(name: str) -> None:
        try:
            inspect.signature(subject.cast.sides[name]).bind(None)
        except TypeError as error:
            raise Fault(f"{subject.title(name)} cannot be called with a peer: {error}") from None

    if not subject.sides:
        raise Fault("it has neither serve nor connect")
    for name in subject.sides:
        yield partial(look, name)


@check("face")
def has_both_sides(subject: Subject) -> Iterator[Case]:
    """It has both sides, so that a client need not be written again."""
    if len(subject.sides) < 2:
        raise NotApplicable(f"it is a {subject.sides[0]} alone" if subject.sides else "no side")
    yield lambda: None


@check("face")
def sides_are_coroutines(subject: Subject) -> Iterator[Case]:
    """Each side is written with ``async def``."""

    def look(name: str) -> None:
        exchange = Exchange(subject.cast.sides[name], subject.cast.facts.get(name))
        outcome = exchange.outcome
        exchange.throw(GeneratorExit())
        if outcome is not None and "expected a coroutine" in str(outcome):
            raise Fault(str(outcome))

    for name in subject.sides:
        yield partial(look, name)


@check("face")
def says_what_it_does(subject: Subject) -> Iterator[Case]:
    """Its docstring begins with a line that can stand in ``--help-handshakes``."""

    def look() -> None:
        kind = type(subject.handshake)
        text = inspect.cleandoc(kind.__doc__ or "")
        line = text.partition("\n")[0]
        if not line:
            raise Fault(f"{kind.__name__} has no docstring, so its help is empty", weak=True)
        if not line.endswith("."):
            raise Fault(f"the help of {kind.__name__} is no sentence: {line!r}", weak=True)

    yield look


@check("face")
def takes_its_arguments_from_a_string(subject: Subject) -> Iterator[Case]:
    """Its constructor can be called with what a plug-in string says."""

    def look() -> None:
        kind = type(subject.handshake)
        try:
            Signature("handshake", kind.__name__, kind)
        except (ConfigurationError, ValueError, TypeError, NameError) as error:
            raise Fault(f"no string can call it: {error}", weak=True) from None

    yield look


@check("face")
def marks_its_secrets(subject: Subject) -> Iterator[Case]:
    """An argument that is called a password or a secret is annotated as ``sockproto.Secret``."""

    def look() -> None:
        kind = type(subject.handshake)
        try:
            parameters = inspect.signature(kind).parameters.values()
        except (ValueError, TypeError):
            return
        signature: Any = Signature("handshake", kind.__name__, kind)
        marked = {each.name for each in signature._parameters if each.secret}
        for each in parameters:
            if each.name in _SECRET_WORDS and each.name not in marked:
                raise Fault(
                    f"the argument {each.name!r} is not annotated as Secret, "
                    "so nobody is warned who writes it on a command line",
                    weak=True,
                )

    yield look


@check("face")
def is_found_by_its_name(subject: Subject) -> Iterator[Case]:
    """The plug-in door knows it, by a name or as ``module:attribute``."""
    kind = type(subject.handshake)
    spec = subject.spec or f"{kind.__module__}:{kind.__qualname__}"
    if not subject.spec and "<locals>" in spec:
        raise NotApplicable(f"{kind.__name__} stands in a function, where nobody else finds it")

    def look() -> None:
        try:
            handshake_blueprint(spec)
        except ConfigurationError as error:
            # One that it needs arguments for was found all the same.
            if " needs " not in str(error):
                raise Fault(str(error)) from None

    yield look


@check("face")
def is_made_without_a_connection(subject: Subject) -> Iterator[Case]:
    """A side that was called and never run leaves nothing behind."""

    def look(name: str) -> None:
        side: Any = subject.cast.sides[name]
        try:
            started = side(None)
        except Exception as error:
            raise Fault(f"{subject.title(name)} raises when it is called: {error!r}") from None
        close = getattr(started, "close", None)
        if close is not None:
            close()

    for name in subject.sides:
        yield partial(look, name)
