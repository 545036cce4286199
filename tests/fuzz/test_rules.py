"""Rules that never complain would let everything pass: each mistake is noticed here."""

from __future__ import annotations

import pytest

from sockproto.core.errors import ConfigurationError
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer

from .rules import MAX_SECONDS, Stopwatch, cuts_of, listen, read


async def takes_what_has_come(peer: Peer) -> Accept:
    return Accept(await peer.receive_some(64))


async def raises(peer: Peer) -> Accept:
    return Accept(result=int(await peer.receive_line(64)))


async def looks_ahead(peer: Peer) -> Accept:
    await peer.receive_exactly(6)
    return Accept(b"?") if await peer.expect(b"\nhi") else Accept(b"!")


async def tells_why(peer: Peer) -> Reject:
    return Reject(b"NO, not " + await peer.receive_line(64))


async def waits_for_its_own_word(peer: Peer) -> Accept | Reject:
    line = await peer.receive_line(64)
    return Accept(line) if line == b"sesame" else Reject(b"NO\n")


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (takes_what_has_come, "cut into"),
        (raises, "not a peer's doing"),
        (looks_ahead, "looked behind what it has taken"),
        (tells_why, "not what others hear"),
    ],
)
def test_a_broken_handshake_is_noticed(broken, told):
    with pytest.raises(AssertionError, match=told):
        listen(broken, b"sesame\nhello", denied=b"NO\n")


@pytest.mark.parametrize("data", [b"", b"ses", b"sesame\nhello", b"simsim\n", b"x" * 99])
def test_one_that_is_in_order_is_left_in_peace(data):
    listen(waits_for_its_own_word, data, denied=b"NO\n")


def test_an_error_that_is_not_for_operators_is_noticed():
    with pytest.raises(AssertionError, match="not for operators: UnicodeDecodeError"):
        read(bytes.decode, b"\xff", blames=ValueError)
    with pytest.raises(AssertionError, match="not for operators: ValueError"):
        read(int, "x")
    with pytest.raises(KeyError):
        read({}.__getitem__, "x")


def test_words_that_repeat_a_secret_are_noticed():
    def refuse(text: str) -> None:
        raise ConfigurationError(f"{text} is not the password")

    with pytest.raises(AssertionError, match="may be a secret"):
        read(refuse, "\u00e4", discreet=True)
    assert read(refuse, "\u00e4") is None


def test_words_without_advice_are_noticed():
    def refuse(text: str) -> None:
        raise ConfigurationError(f"{text} is not the password")

    with pytest.raises(AssertionError, match="what is to be done"):
        read(refuse, "simsim", advises=True)
    assert read(refuse, "sesame; ask Ali Baba: it", advises=True) is None


def test_what_takes_long_each_time_is_noticed():
    now = 0.0

    def parse() -> None:
        nonlocal now
        now += costs.pop(0)

    stopwatch = Stopwatch(lambda: now)
    costs = [9.0]
    stopwatch.time(parse)
    stopwatch.strict = True
    costs = [9.0, 9.0, MAX_SECONDS]
    stopwatch.time(parse)
    costs = [9.0] * 4
    with pytest.raises(AssertionError, match="took 9000 ms"):
        stopwatch.time(parse)


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 4096])
def test_cuts_are_of_the_whole(size):
    data = bytes(each % 251 for each in range(size))

    assert all(b"".join(cut) == data for cut in cuts_of(data))
    assert max(map(len, cuts_of(data))) <= 257
