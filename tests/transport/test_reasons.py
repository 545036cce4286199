from __future__ import annotations

import pytest

from sockproto import (
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    ProtocolViolation,
    Rejected,
    Shutdown,
)
from sockproto.transport.reasons import broke, in_one_line, is_openssls, reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HandshakeTimeout(5, "idle_timeout"), "timeout"),
        (LimitExceeded(64, "max_bytes"), "limit"),
        (ProtocolViolation("a line", b"x"), "violation"),
        (PeerDisconnected(0, "a line"), "lost"),
        (Rejected("no"), "rejected"),
        (Shutdown(), "shutdown"),
        (HandshakeFailed("it", "broke"), "crashed"),
        (ZeroDivisionError(), "crashed"),
        (KeyboardInterrupt(), "crashed"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else each,
)
def test_an_error_has_one_reason(error, reason):
    assert reason_of(error) == reason


def test_what_broke_is_named_and_its_error_kept():
    error = ValueError("no such table")

    failed = broke("the admission", error)

    assert str(failed) == str(
        HandshakeFailed("the admission", "raised ValueError('no such table')")
    )
    assert failed.__cause__ is error


def test_openssls_errors_are_told_by_name():
    from OpenSSL import SSL

    assert [is_openssls(each) for each in (SSL.Error(), OSError(), None)] == [True, False, False]


class Wrapped(Exception):
    """Twisted's FilePath has one that says nothing itself."""

    originalException = OSError(2, "No such file or directory", "nowhere")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ConnectionError("It was\n  refused."), "It was refused"),
        (ConnectionError(), "ConnectionError"),
        (Wrapped(), "[Errno 2] No such file or directory: 'nowhere'"),
    ],
)
def test_what_went_wrong_is_one_line(error, line):
    assert in_one_line(error) == line
