from twisted.internet.task import Clock

from sockproto.core.errors import HandshakeFailed, PeerDisconnected, Rejected
from sockproto.events import (
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    HandshakeEnded,
    RefusalWaived,
)
from sockproto.limits import DEFAULT_LIMITS
from sockproto.transport.datagram_events import Chronicle
from sockproto.transport.terms import Terms

from .kit import LOCAL, PEER, Word


class Told:
    """An observer that keeps what it is told."""

    def __init__(self, *wants):
        self.events = []
        if wants:
            self.wants = wants

    def __call__(self, event):
        self.events.append(event)


def begin(told):
    clock = Clock()
    terms = Terms(
        Word().serve,
        None,
        serving=True,
        limits=DEFAULT_LIMITS,
        admission=None,
        observers=[told],
        clock=clock,
    )
    return Chronicle(terms, PEER, LOCAL), clock


def test_everything_is_told_in_order():
    told = Told()
    chronicle, clock = begin(told)
    clock.advance(2)
    chronicle.end("accepted", "handshake", None, identity="ann", received=4, last="closing")

    assert told.events == [
        ConnectionOpened(1, PEER, LOCAL),
        HandshakeEnded(1, PEER, LOCAL, "accepted", "handshake", "", "ann", None, 2.0, 4, None),
        ConnectionEnded(1, PEER, LOCAL, Ending("accepted", "closing"), "ann", 2.0),
    ]


def test_an_error_is_told_in_words():
    for error, detail in (
        (Rejected("wrong word"), "wrong word"),
        (PeerDisconnected(0, "a line"), "peer disconnected after 0 bytes, expected a line"),
    ):
        told = Told("lost", ConnectionEnded)
        begin(told)[0].end("lost", "handshake", error)

        verdict, ending = told.events
        assert (verdict.detail, verdict.error) == (detail, error)
        assert ending.ending == Ending("lost", "handshake")


def test_what_nobody_wants_is_not_told():
    told = Told(RefusalWaived)
    chronicle, _ = begin(told)
    chronicle.end("accepted", "handshake", None)
    assert told.events == []

    chronicle.waive("too many")
    assert told.events == [RefusalWaived(1, PEER, LOCAL, "too many")]


def test_a_waiver_that_nobody_wants_is_not_told():
    told = Told("accepted")
    begin(told)[0].waive("too many")

    assert told.events == []


def test_a_crash_that_nobody_wants_is_logged(logged):
    begin(Told("accepted"))[0].end("crashed", "handshake", HandshakeFailed("it", "broke"))

    assert logged.take() == ["it broke: HandshakeFailed('it broke')"]
