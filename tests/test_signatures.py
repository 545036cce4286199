"""How a string calls a constructor, and what is said when it does not fit."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import quoteStringArgument

from sockproto import ConfigurationError, Endpoint, Secret
from sockproto.core.arguments import SECRET
from sockproto.signatures import Arguments, Signature, cut, unquote

CANARY = "sesame4711"


# What a string may call.


def typed(
    text: str = "",
    data: bytes = b"",
    count: int = 0,
    rate: float = 0.0,
    loud: bool = False,
    file: Path | None = None,
    bare="",
): ...


def lesson(token: bytes = b"1", welcome: bytes = b"", goodbye: bytes = b""): ...


def passphrase(word: Secret | None = None, file: Path | None = None, env: str | None = None): ...


def by_name(*words: str, count: int, loud: bool = False, **more: str): ...


def by_place(first: str, second: str = "two", /, third: str = "three"): ...


def forward(target: Endpoint, tries: int = 1): ...


def fallback(tries: int = 1, target: Endpoint | None = None): ...


def safe(pin: Annotated[int | None, SECRET] = None, depth: int = 1): ...


def needy(database: dict[str, int]): ...


def wishful(word: bytes = b"", hook: int | str | None = None): ...


def dangling(word: Nowhere): ...  # noqa: F821


def nothing(): ...


class Room:
    def __init__(self, name: str = "hall", key: Secret = b"") -> None: ...


def read(target: Any, text: str | None) -> Arguments:
    return Signature("thing", "it", target).read(text)


def values(target: Any, text: str | None) -> dict[str, object]:
    """Give all that a string says, by the names of the parameters."""
    arguments = read(target, text)
    return inspect.signature(target).bind_partial(*arguments.args, **arguments.kwargs).arguments


def complaint(target: Any, text: str | None) -> str:
    """Give the words of the error that a string earns."""
    with pytest.raises(ConfigurationError) as caught:
        read(target, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def usage(target: Any) -> str:
    return Signature("thing", "it", target).usage


# Arguments.


def test_without_a_string_there_are_no_arguments():
    assert read(typed, None) == Arguments((), (), {})


def test_arguments_are_converted_as_the_annotations_say():
    assert values(typed, "a:b:3:0.5:on:/etc/motd:c") == {
        "text": "a",
        "data": b"b",
        "count": 3,
        "rate": 0.5,
        "loud": True,
        "file": Path("/etc/motd"),
        "bare": "c",
    }


def test_arguments_may_be_named_in_any_order():
    assert values(typed, "loud=off:count=-7:first") == {"loud": False, "count": -7, "text": "first"}


@pytest.mark.parametrize("word", ["on", "yes", "true", "1", "ON", "True"])
def test_these_words_are_true(word):
    assert values(typed, f"loud={word}") == {"loud": True}


@pytest.mark.parametrize("word", ["off", "no", "false", "0", "Off"])
def test_these_words_are_false(word):
    assert values(typed, f"loud={word}") == {"loud": False}


def test_the_bytes_of_a_command_line_come_through():
    assert values(typed, "data=\udcffä") == {"data": b"\xff\xc3\xa4"}


def test_an_empty_argument_is_an_argument():
    assert values(lesson, "") == {"token": b""}
    assert values(lesson, ":hi") == {"token": b"", "welcome": b"hi"}


def test_an_equals_sign_is_a_keyword_only_after_the_name_of_a_parameter():
    assert values(lesson, "c2VzYW1l==") == {"token": b"c2VzYW1l=="}
    assert values(lesson, "colour=red") == {"token": b"colour=red"}
    assert values(lesson, "token=a=b") == {"token": b"a=b"}


def test_a_backslash_takes_the_next_character_literally():
    assert values(lesson, r"a\:b") == {"token": b"a:b"}
    assert values(lesson, r"token\=b") == {"token": b"token=b"}
    assert values(lesson, r"a\\:b") == {"token": b"a\\", "welcome": b"b"}
    assert values(lesson, "a\\\nb") == {"token": b"a\nb"}


@given(st.text(st.characters(codec="utf-8")))
def test_whatever_twisted_quotes_comes_through(text):
    quoted = quoteStringArgument(text)

    assert values(lesson, f"token={quoted}:goodbye=x") == {"token": text.encode(), "goodbye": b"x"}


def test_a_backslash_at_the_end_is_refused():
    assert values(lesson, "a\\\\") == {"token": b"a\\"}
    assert complaint(lesson, "a\\") == (
        "thing 'it' ends in a backslash that quotes nothing; write two to mean one"
    )


def test_an_endpoint_takes_the_raw_rest():
    assert values(forward, r"tcp:[\:\:1]:80:timeout=3") == {"target": r"tcp:[\:\:1]:80:timeout=3"}
    assert values(forward, "tries=2:target=unix:/run/x") == {"tries": 2, "target": "unix:/run/x"}
    assert values(forward, "tries=2:unix:/run/x") == {"tries": 2, "target": "unix:/run/x"}
    assert values(fallback, "3:tcp:localhost:80") == {"tries": 3, "target": "tcp:localhost:80"}


def test_an_endpoint_is_not_empty():
    assert complaint(forward, "") == "thing 'it' needs an endpoint as 'target'"


def test_parameters_without_a_name_are_given_by_their_place():
    assert read(by_place, "1").args == ("1",)
    assert read(by_place, "1:second=2:third=3") == Arguments((), ("1", "second=2", "3"), {})


def test_parameters_without_a_place_are_given_by_their_name():
    assert read(by_name, "count=1") == Arguments((), (), {"count": 1})


def test_the_arguments_of_a_class_are_those_of_its_constructor():
    assert read(Room, "attic") == Arguments((), ("attic",), {})


# Arguments that do not fit.


@pytest.mark.parametrize(
    ("argument", "trouble"),
    [
        ("count=three", "a whole number as 'count', got 'three'"),
        ("rate=fast", "a finite number as 'rate', got 'fast'"),
        ("rate=nan", "a finite number as 'rate', got 'nan'"),
        ("rate=inf", "a finite number as 'rate', got 'inf'"),
        ("loud=maybe", "on or off as 'loud', got 'maybe'"),
        ("file=", "a path as 'file'"),
        ("data=\ud800", "text as 'data'"),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused(argument, trouble):
    assert complaint(typed, argument) == f"thing 'it' needs {trouble}"


def test_a_name_that_no_parameter_has_is_refused_once_all_places_are_taken():
    assert complaint(lesson, "1:hello:bye:colour=red") == (
        "thing 'it' takes no argument named 'colour'; its arguments are token, welcome, goodbye"
    )


def test_one_argument_too_many_is_refused():
    too_many = (
        "thing 'it' takes at most 3 arguments without a name; "
        "write it[:TOKEN][:welcome=TEXT][:goodbye=TEXT]"
    )

    assert complaint(lesson, "1:2:3:4") == too_many
    assert complaint(lesson, "1:2:3:c2VzYW1l-x==") == too_many


def test_any_argument_is_one_too_many_for_what_takes_none():
    assert complaint(nothing, "colour=red") == "thing 'it' takes no arguments"
    assert complaint(nothing, "") == "thing 'it' takes no arguments"


def test_an_argument_that_is_given_twice_is_refused():
    twice = "thing 'it' is given 'token' twice"

    assert complaint(lesson, "token=1:token=2") == twice
    assert complaint(lesson, "1:token=2") == twice
    assert complaint(lesson, "token=1:2") == twice


def test_arguments_that_are_missing_are_asked_for():
    assert complaint(by_place, None) == (
        "thing 'it' needs first; write it:FIRST[:SECOND][:third=TEXT]"
    )
    assert complaint(by_name, "loud=on") == (
        "thing 'it' needs count; write it:count=INT[:loud=on|off]"
    )


def test_an_argument_that_no_string_can_hold_is_refused():
    assert complaint(needy, "x") == (
        "thing 'it' cannot be used: its argument 'database' cannot be written in a string"
    )
    assert complaint(wishful, "hook=3") == (
        "thing 'it' is misused: its argument 'hook' cannot be written in a string"
    )
    assert values(wishful, "x") == {"word": b"x"}


def test_an_annotation_that_leads_nowhere_is_an_error():
    with pytest.raises(NameError):
        Signature("thing", "it", dangling)


# Usage.


@pytest.mark.parametrize(
    ("target", "written"),
    [
        (nothing, "it"),
        (by_name, "it:count=INT[:loud=on|off]"),
        (by_place, "it:FIRST[:SECOND][:third=TEXT]"),
        (fallback, "it[:TRIES][:target=ENDPOINT]"),
        (forward, "it[:tries=INT]:TARGET"),
        (passphrase, "it[:WORD][:file=PATH][:env=TEXT]"),
        (
            typed,
            "it[:TEXT][:data=TEXT][:count=INT][:rate=NUMBER][:loud=on|off][:file=PATH][:bare=TEXT]",
        ),
        (wishful, "it[:WORD]"),
    ],
)
def test_the_usage_names_what_a_string_can_say(target, written):
    assert usage(target) == written


# Secrets.


def test_secrets_that_stand_in_the_string_are_exposed():
    assert read(passphrase, "sesame").exposed == ("word",)
    assert read(passphrase, "word=sesame").exposed == ("word",)
    assert read(passphrase, "file=/etc/motd").exposed == ()
    assert read(lesson, "1").exposed == ()
    assert read(Room, "attic:sesame").exposed == ("key",)


def test_arguments_do_not_show_what_they_are():
    assert CANARY not in repr(read(passphrase, CANARY))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (passphrase, f"word={CANARY}:word={CANARY}"),
        (passphrase, f"{CANARY}:word={CANARY}"),
        (passphrase, f"{CANARY}:x:y:z"),
        (passphrase, f"x:y:z:{CANARY}"),
        (passphrase, f"x:y:z:{CANARY}=="),
        (passphrase, f"{CANARY}\\"),
        (passphrase, f"{CANARY}\ud800"),
        (safe, CANARY),
        (safe, f"1:{CANARY}"),
        (safe, f"depth={CANARY}"),
        (nothing, CANARY),
        (needy, CANARY),
    ],
)
def test_a_secret_is_never_in_an_error_nor_in_its_traceback(target, text):
    with pytest.raises(ConfigurationError) as caught:
        read(target, text)

    assert CANARY not in "".join(traceback.format_exception(caught.value))


# Quoting.


def test_a_string_is_cut_at_the_first_mark_that_is_not_quoted():
    assert cut("a:b:c", ":") == ("a", "b:c")
    assert cut(r"a\:b:c", ":") == (r"a\:b", "c")
    assert cut(r"a\\:b", ":") == (r"a\\", "b")
    assert cut("a\nb:\nc", ":") == ("a\nb", "\nc")
    assert cut(":", ":") == ("", "")


def test_without_a_mark_there_is_no_second_part():
    assert cut("a=b", ":") == ("a=b", None)
    assert cut(r"a\:b", ":") == (r"a\:b", None)
    assert cut("a\\", ":") == ("a\\", None)


def test_what_was_quoted_is_itself_again():
    assert unquote(r"a\:b\\c\=d") == r"a:b\c=d"
