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
from sockproto.transport.reasons import broke, reason_of


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
