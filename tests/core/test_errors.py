import pytest

from sockproto.core.errors import (
    ConfigurationError,
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    PeerError,
    ProtocolViolation,
    Rejected,
    Shutdown,
    SockprotoError,
    UnknownHandshake,
    UnknownSession,
    shorten,
)


@pytest.mark.parametrize(
    "error",
    [
        PeerDisconnected(0, "a line"),
        LimitExceeded(64, "max_bytes"),
        ProtocolViolation("a line", b"?"),
        HandshakeTimeout(5, "idle_timeout"),
        Rejected("wrong word"),
    ],
)
def test_what_the_peer_broke_is_a_peer_error(error):
    assert isinstance(error, PeerError)
    assert isinstance(error, SockprotoError)


@pytest.mark.parametrize(
    "error", [HandshakeFailed("Word.serve", "broke"), Shutdown(), ConfigurationError("mistyped")]
)
def test_what_others_broke_is_not_a_peer_error(error):
    assert not isinstance(error, PeerError)
    assert isinstance(error, SockprotoError)


def test_a_timeout_is_a_timeout_error_and_a_mistyped_option_a_value_error():
    assert isinstance(HandshakeTimeout(5, "idle_timeout"), TimeoutError)
    assert isinstance(UnknownSession("ecko", ["echo"]), ValueError)


def test_a_disconnect_says_how_far_the_peer_came():
    error = PeerDisconnected(3, "a line")

    assert str(error) == "peer disconnected after 3 bytes, expected a line"
    assert (error.received, error.expected) == (3, "a line")


def test_a_limit_says_who_set_it():
    error = LimitExceeded(64, "max_bytes")

    assert str(error) == "peer sent more than 64 bytes, the limit set by max_bytes"
    assert (error.limit, error.set_by) == (64, "max_bytes")


def test_a_limit_says_what_the_peer_did():
    error = LimitExceeded(64, "max_unsent", "was owed more than")

    assert str(error) == "peer was owed more than 64 bytes, the limit set by max_unsent"


def test_a_violation_shows_what_came_instead():
    error = ProtocolViolation("a netstring", b"hello\x1b")

    assert str(error) == "expected a netstring, got b'hello\\x1b'"
    assert (error.expected, error.got) == ("a netstring", b"hello\x1b")


@pytest.mark.parametrize(
    ("got", "guess"),
    [
        (b"GET / HTTP/1.1\r\n", "is this an HTTP client?"),
        (b"CONNECT example.org:443", "is this an HTTP client?"),
        (b"\x16\x03\x01\x02\x00", "is this a TLS client?"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "is this an SSH client?"),
    ],
)
def test_a_violation_guesses_who_the_stranger_is(got, guess):
    assert str(ProtocolViolation("a word", got)) == f"expected a word, got {got!r}; {guess}"


def test_an_idle_timeout_says_what_was_waited_for():
    error = HandshakeTimeout(0.5, "idle_timeout", "receive_exactly(count=4)")

    assert str(error) == (
        "nothing heard for 0.5 s in receive_exactly(count=4), the limit set by idle_timeout"
    )
    assert (error.seconds, error.set_by, error.waiting_on) == (
        0.5,
        "idle_timeout",
        "receive_exactly(count=4)",
    )


def test_a_handshake_timeout_says_that_bytes_did_not_help():
    error = HandshakeTimeout(10.0, "handshake_timeout")

    assert str(error) == "not finished after 10 s, the limit set by handshake_timeout"


def test_a_rejection_gives_the_reason():
    error = Rejected("wrong word")

    assert str(error) == "peer rejected the handshake: wrong word"
    assert error.reason == "wrong word"


def test_a_failed_handshake_is_named():
    error = HandshakeFailed("Word.serve", "returned None")

    assert str(error) == "Word.serve returned None"
    assert (error.name, error.trouble) == ("Word.serve", "returned None")


def test_a_shutdown_blames_nobody():
    assert str(Shutdown()) == "we are shutting down"


def test_an_unknown_handshake_lists_the_known_ones_and_guesses():
    error = UnknownHandshake("pasphrase", ["passphrase", "welcome"])

    assert str(error) == (
        "unknown handshake 'pasphrase': the known ones are passphrase, welcome, "
        "or give module:attribute; did you mean 'passphrase'?"
    )
    assert (error.name, error.known) == ("pasphrase", ("passphrase", "welcome"))


def test_an_unknown_session_says_what_went_wrong_and_does_not_guess_wildly():
    error = UnknownSession("chat:Room", ["echo"], "no module named chat")

    assert str(error) == (
        "unknown session 'chat:Room' (no module named chat): the known ones are echo, "
        "or give module:attribute"
    )


def test_short_bytes_are_shown_whole_and_escaped():
    assert shorten(b"\x1b[2J") == "b'\\x1b[2J'"
    assert shorten(b"x" * 32) == repr(b"x" * 32)


def test_long_bytes_are_cut_short():
    assert shorten(b"x" * 33) == f"{b'x' * 32!r}..."
    assert shorten(b"hello", most=2) == "b'he'..."
