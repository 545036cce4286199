import asyncio
import gc
from contextlib import suppress
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from sockproto import (
    Accept,
    HandshakeFailed,
    HandshakeTimeout,
    PeerDisconnected,
    ProtocolViolation,
    Reject,
    Rejected,
    Shutdown,
)
from sockproto.admission.contract import Refusal
from sockproto.admission.networks import Networks
from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.events import (
    ConnectionEnded,
    ConnectionOpened,
    Ending,
    HandshakeEnded,
    RefusalWaived,
)
from sockproto.limits import Limits
from sockproto.transport.gate import MAX_TURNED_AWAY, Gate
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.terms import Terms

from .kit import LOCAL, PEER, Asks, Observed, Sessions, Tickets, Word, runs

FACTS = PeerFacts(PEER, LOCAL)


class Wire:
    """Notes what the gate tells it. ``on_write`` and ``on_tls`` may answer back meanwhile."""

    def __init__(self):
        self.told = []
        self.verdicts = []
        self.handed = None
        self.lease = None
        self.on_write = None
        self.on_tls = None

    def write(self, data):
        self.told.append(data)
        if self.on_write is not None:
            self.on_write(data)

    def half_close(self):
        self.told.append("half-close")

    def close(self):
        self.told.append("close")

    def abort(self):
        self.told.append("abort")

    def leave(self):
        self.told.append("leave")

    def start_tls(self, early):
        self.told.append(("start TLS", early))
        if self.on_tls is not None:
            self.on_tls()

    def pause_reading(self):
        self.told.append("pause")

    def resume_reading(self):
        self.told.append("resume")

    def build_session(self, factory):
        return factory.buildProtocol(None)

    def hand_over(self, gate, session, accept, early, *, ended):
        self.told.append("hand over")
        self.handed = (accept, early, ended)
        self.lease = gate.lease(self, session)
        self.concluded(accept, session)

    def concluded(self, verdict, session):
        self.verdicts.append((verdict, session))

    loseConnection = close
    abortConnection = abort


class Passage(Observed):
    """A gate between a wire and some terms, in virtual time."""

    def __init__(
        self,
        handshake=None,
        session=None,
        *,
        admission=None,
        serving=True,
        opened=True,
        tls=False,
        creator=None,
        proxy=None,
        observers=(),
        **limits,
    ):
        self.clock = Clock()
        self.clock.advance(1000)
        self.events = []
        handshake = handshake or Word()
        self.terms = Terms(
            handshake.serve if serving else handshake.connect,
            session,
            serving=serving,
            limits=Limits(**limits),
            admission=admission,
            observers=[] if observers is None else [self.events.append, *observers],
            clock=self.clock,
            tls=creator,
            proxy=proxy,
        )
        self.wire = Wire()
        self.gate = Gate(self.terms, self.wire, FACTS)
        if opened:
            self.gate.open(tls=tls)

    def lose(self, why=None):
        self.gate.wire_lost(Failure(why or ConnectionDone()))

    @property
    def told(self):
        return self.wire.told

    @property
    def left_behind(self):
        return [
            *self.terms.live,
            *self.clock.getDelayedCalls(),
            *range(len(self.terms.deadlines)),
        ]


# The way in


def test_the_three_events_of_a_connection_have_all_there_is_to_know():
    passage = Passage()
    passage.clock.advance(0.5)
    passage.gate.data_received(b"yes\n")
    passage.clock.advance(0.5)
    passage.lose()

    assert passage.events == [
        ConnectionOpened(1, PEER, LOCAL),
        HandshakeEnded(1, PEER, LOCAL, "accepted", "handshake", "", "ann", None, 0.5, 4, None),
        ConnectionEnded(1, PEER, LOCAL, Ending("accepted", "closing"), "ann", 1.0),
    ]
    assert passage.left_behind == []


def test_connections_are_numbered_in_the_order_in_which_they_came():
    passage = Passage()
    second = Gate(passage.terms, Wire(), FACTS)
    second.open()

    assert [each.number for each in passage.events] == [1, 2]


def test_a_side_that_speaks_first_has_spoken_when_the_gate_is_open():
    async def greets(peer):
        peer.send(b"hello\n")
        return await Word().serve(peer)

    assert Passage(runs(greets)).told == [b"hello\n"]


def test_a_handshake_knows_what_the_gate_knows():
    seen = []

    async def looks(peer):
        seen.append((peer.address, peer.local, peer.tls))
        return Accept()

    Passage(runs(looks))

    assert seen == [(PEER, LOCAL, None)]


def test_over_tls_the_handshake_begins_when_tls_is_there_and_knows_more():
    seen = []

    async def looks(peer):
        seen.append(peer.tls)
        return Accept(await peer.receive_exactly(1))

    passage = Passage(runs(looks), tls=True)
    passage.gate.data_received(b"ignored")
    assert (passage.gate.phase, seen) == ("tls", [])

    passage.gate.tls_established(TlsFacts("chat"))
    passage.gate.data_received(b"!")

    assert seen == [TlsFacts("chat")]
    assert passage.told == [b"!", "close"]


def test_tls_is_established_once():
    passage = Passage(tls=True)
    passage.gate.tls_established(TlsFacts())
    passage.gate.data_received(b"ye")

    passage.gate.tls_established(TlsFacts("late"))
    passage.gate.data_received(b"s\n")

    assert passage.told == [b"OK\n", "close"]
    assert passage.gate.facts.tls == TlsFacts()


def test_nothing_is_told_where_nobody_listens():
    passage = Passage(observers=None)

    passage.gate.data_received(b"no\n")
    passage.lose()

    assert (passage.told, passage.events) == ([b"NO\n", "half-close"], [])
    assert passage.left_behind == []


def test_a_gate_may_move_to_another_wire():
    passage = Passage()
    before, passage.wire = passage.wire, Wire()

    passage.gate.move_to(passage.wire)
    passage.gate.data_received(b"yes\n")

    assert (before.told, passage.told) == ([], [b"OK\n", "close"])


# TLS in the middle of the handshake


async def upgrades(peer):
    """Say so, upgrade, and go on as ``Word`` does."""
    if await peer.receive_line(64) != b"STARTTLS":
        return Reject(b"NO\n")
    peer.send(b"220\n")
    await peer.start_tls()
    return await Word().serve(peer)


def upgrading(**terms):
    """A passage that has come as far as TLS."""
    passage = Passage(runs(upgrades), creator=object(), **terms)
    passage.gate.data_received(b"STARTTLS\n")
    assert passage.told == [b"220\n", ("start TLS", b"")]
    assert passage.gate.phase == "tls"
    return passage


def test_a_handshake_goes_on_when_tls_is_there_and_knows_more():
    passage = upgrading()

    passage.gate.tls_established(TlsFacts("chat"))
    assert passage.gate.phase == "handshake"
    assert passage.gate.facts == PeerFacts(PEER, LOCAL, TlsFacts("chat"))
    passage.gate.data_received(b"yes\n")
    passage.lose()

    assert passage.told[2:] == [b"OK\n", "close"]
    assert passage.verdicts == [("accepted", "handshake", "")]
    assert passage.left_behind == []


def test_a_handshake_may_be_over_as_soon_as_tls_is_there():
    async def rejects(peer):
        await peer.start_tls()
        return Reject(b"NO\n")

    passage = Passage(runs(rejects), creator=object())
    passage.gate.tls_established(TlsFacts())
    passage.lose()

    assert passage.told == [("start TLS", b""), b"NO\n", "half-close"]
    assert passage.left_behind == []


def test_tls_may_be_there_at_once():
    passage = Passage(runs(upgrades), opened=False, creator=object())
    passage.wire.on_tls = lambda: passage.gate.tls_established(TlsFacts())
    passage.gate.open()

    passage.gate.data_received(b"STARTTLS\n")
    passage.gate.data_received(b"yes\n")

    assert passage.told == [b"220\n", ("start TLS", b""), b"OK\n", "close"]


def test_what_is_unread_when_tls_is_asked_for_ends_the_connection():
    passage = Passage(runs(upgrades), creator=object())

    passage.gate.data_received(b"STARTTLS\nRSET\n")
    passage.lose()

    words = "expected nothing in the clear before TLS, got b'RSET\\n'"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("violation", "handshake", words)]
    assert passage.left_behind == []


def test_what_comes_between_the_question_and_the_upgrade_ends_the_connection():
    passage = Passage(runs(upgrades), opened=False, creator=object())
    passage.wire.on_write = lambda _: passage.gate.data_received(b"RSET\n")
    passage.gate.open()

    passage.gate.data_received(b"STARTTLS\n")
    passage.lose()

    words = "expected nothing in the clear before TLS, got b'RSET\\n'"
    assert passage.told == [b"220\n", "leave"]
    assert passage.verdicts == [("violation", "handshake", words)]
    assert passage.left_behind == []


def test_what_the_wire_still_finds_in_the_clear_ends_the_connection():
    passage = upgrading()

    passage.gate.data_received(b"RSET\n")
    passage.lose()

    words = "expected nothing in the clear before TLS, got b'RSET\\n'"
    assert passage.verdicts == [("violation", "tls", words)]
    assert passage.left_behind == []


@pytest.mark.parametrize("serving", [False, True])
def test_to_ask_for_tls_where_nothing_says_how_is_the_plug_ins_fault(serving):
    async def asks(peer):
        await peer.start_tls()

    passage = Passage(runs(asks), serving=serving)
    passage.lose()

    [(reason, phase, detail)] = passage.verdicts
    assert (reason, phase) == ("crashed", "handshake")
    assert detail.endswith(
        "asks called start_tls(), but nothing says how: give tls=… beside the handshake"
    )
    assert isinstance(passage.wire.verdicts[0][0], HandshakeFailed)
    assert passage.told == ["leave"]


def test_a_peer_that_never_speaks_tls_ends_with_the_handshake_clock():
    passage = upgrading(idle_timeout=2, handshake_timeout=10)

    passage.clock.advance(9.9)
    assert passage.verdicts == []
    passage.clock.advance(1.3)
    passage.lose()

    words = "not finished after 10 s in the TLS handshake, the limit set by handshake_timeout"
    assert passage.verdicts == [("timeout", "tls", words)]
    assert passage.told[2:] == ["leave"]
    assert passage.left_behind == []


def test_the_idle_clock_starts_anew_when_tls_is_there():
    passage = upgrading(idle_timeout=2, handshake_timeout=10)
    passage.clock.advance(5)
    passage.gate.tls_established(TlsFacts())

    passage.clock.advance(1.9)
    assert passage.verdicts == []
    passage.clock.advance(0.3)

    assert [each[0] for each in passage.verdicts] == ["timeout"]


@pytest.mark.parametrize("why", [ConnectionDone(), ConnectionLost()])
def test_a_peer_that_leaves_instead_of_speaking_tls_is_lost(why):
    passage = upgrading()

    passage.lose(why)

    words = "peer disconnected after 9 bytes, expected the TLS handshake"
    assert passage.verdicts == [("lost", "tls", words)]
    assert passage.endings == [("lost", "tls")]
    assert isinstance(passage.wire.verdicts[0][0], PeerDisconnected)
    assert passage.left_behind == []


def test_a_peer_that_finishes_instead_of_speaking_tls_is_lost():
    passage = upgrading()

    passage.gate.eof_received()
    passage.lose()

    words = "peer disconnected after 9 bytes, expected the TLS handshake"
    assert passage.verdicts == [("lost", "tls", words)]
    assert passage.told[2:] == ["leave"]


def test_a_peer_that_speaks_something_else_instead_of_tls_is_in_violation():
    from OpenSSL import SSL

    passage = upgrading()

    passage.lose(SSL.Error([("SSL routines", "", "wrong version number")]))

    [(reason, phase, detail)] = passage.verdicts
    assert (reason, phase) == ("violation", "tls")
    assert "wrong version number" in detail
    assert passage.left_behind == []


def test_shutting_down_ends_an_upgrade():
    passage = upgrading()

    passage.gate.shut_down()
    passage.gate.tls_established(TlsFacts())
    passage.lose()

    assert passage.told[2:] == ["leave"]
    assert passage.verdicts == [("shutdown", "tls", "we are shutting down")]
    assert passage.left_behind == []


# Behind a proxy

PROXIES = ProxyPolicy("auto", Networks.parse("192.168.0.0/16"))
CLIENT = PeerFacts(Address("inet", "192.0.2.7", 4242), Address("inet", "198.51.100.1", 443))
HEADER = b"PROXY TCP4 192.0.2.7 198.51.100.1 4242 443\r\n"


@pytest.mark.parametrize("at", range(len(HEADER) + 1))
def test_a_handshake_sees_whom_the_proxy_speaks_for(at):
    seen = []

    async def looks(peer):
        seen.append((peer.address, peer.local))
        return await Word().serve(peer)

    passage = Passage(runs(looks), proxy=PROXIES)
    data = HEADER + b"yes\n"
    assert passage.gate.phase == "proxy"
    passage.gate.data_received(data[:at])
    passage.gate.data_received(data[at:])
    passage.lose()

    assert seen == [(CLIENT.address, CLIENT.local)]
    assert passage.told == [b"OK\n", "close"]
    assert [(each.address, each.local) for each in passage.events[1:]] == seen * 2
    assert passage.left_behind == []


def test_admission_asks_for_whom_the_proxy_speaks():
    tickets = Tickets()
    passage = Passage(proxy=PROXIES, admission=tickets)
    assert tickets.asked == []

    passage.gate.data_received(HEADER)
    passage.lose()

    assert tickets.asked == [CLIENT.address]
    assert tickets.released == 1


def test_a_client_that_is_not_admitted_says_nothing_more():
    passage = Passage(proxy=PROXIES, admission=Tickets("too many"))

    passage.gate.data_received(HEADER + b"yes\n")
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("refused", "admission")]


class Caps(Tickets):
    """An admission that has a cap on connections as well."""

    has_room = True

    def __init__(self, refusal=None, full=None):
        super().__init__(refusal)
        self.full = full
        self.held = []

    def when_room(self, callback):
        callback()

    def hold(self):
        self.held.append(Tickets())
        return self.full or self.held[-1]


def test_a_connection_has_a_slot_before_it_is_known_whose_it_is():
    caps = Caps()
    passage = Passage(proxy=PROXIES, admission=caps)
    [held] = caps.held
    assert (held.released, caps.asked) == (0, [])

    passage.gate.data_received(HEADER)
    assert (held.released, caps.asked) == (1, [CLIENT.address])
    passage.lose()

    assert (held.released, caps.released) == (1, 1)


def test_the_slot_of_a_proxy_that_leaves_early_is_given_back_once():
    caps = Caps()
    passage = Passage(proxy=PROXIES, admission=caps)

    passage.gate.data_received(HEADER[:20])
    passage.lose()

    [held] = caps.held
    assert (held.released, caps.asked, caps.released) == (1, [], 0)
    assert passage.left_behind == []


def test_a_proxy_for_which_there_is_no_slot_is_refused():
    caps = Caps(full=Refusal("all are taken", b"busy\n"))
    passage = Passage(proxy=PROXIES, admission=caps)
    passage.gate.data_received(HEADER)
    passage.lose()

    assert passage.told == [b"busy\n", "half-close"]
    assert passage.verdicts == [("refused", "proxy", "all are taken")]
    assert passage.endings == [("refused", "closing")]
    assert passage.left_behind == []


def test_an_admission_that_breaks_before_the_header_lets_nobody_in():
    class Broken(Caps):
        def hold(self):
            raise ZeroDivisionError("oops")

    passage = Passage(proxy=PROXIES, admission=Broken())
    passage.gate.data_received(HEADER + b"yes\n")
    passage.lose()

    words = "the admission raised ZeroDivisionError('oops')"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("crashed", "proxy", words)]
    assert passage.left_behind == []


def test_who_is_no_proxy_takes_no_slot():
    caps = Caps()
    passage = Passage(proxy=ProxyPolicy("auto", Networks.parse("10.0.0.0/8")), admission=caps)
    passage.lose()

    assert caps.held == []
    assert passage.endings == [("refused", "proxy")]


def test_a_connection_of_the_proxys_own_has_its_address():
    passage = Passage(proxy=PROXIES)

    passage.gate.data_received(b"PROXY UNKNOWN\r\nyes\n")

    assert passage.gate.facts == FACTS
    assert passage.told == [b"OK\n", "close"]


def test_a_stranger_is_no_proxy():
    passage = Passage(proxy=ProxyPolicy("auto", Networks.parse("203.0.113.0/24")))
    passage.gate.data_received(HEADER)
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.verdicts == [("refused", "proxy", "it is no proxy that we believe")]
    assert passage.endings == [("refused", "proxy")]
    assert passage.left_behind == []


def test_a_bad_header_is_answered_without_a_byte():
    passage = Passage(proxy=PROXIES)

    passage.gate.data_received(b"GET / HTTP/1.1\r\n")
    passage.gate.data_received(HEADER)
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("violation", "proxy")]
    assert passage.left_behind == []


def test_a_header_is_bounded_by_the_handshake_clock():
    passage = Passage(proxy=PROXIES, idle_timeout=2, handshake_timeout=10)
    passage.gate.data_received(HEADER[:5])

    passage.clock.advance(9.9)
    assert passage.verdicts == []
    passage.clock.advance(1.3)
    passage.lose()

    [(reason, phase, detail)] = passage.verdicts
    assert (reason, phase) == ("timeout", "proxy")
    assert detail.endswith("the limit set by handshake_timeout")
    assert "PROXY" in detail
    assert passage.left_behind == []


@pytest.mark.parametrize(("data", "reason"), [(b"", "probe"), (HEADER[:9], "lost")])
@pytest.mark.parametrize("finishes", [False, True])
def test_a_proxy_that_leaves_before_its_header_is_whole_has_said_something_or_not(
    data, reason, finishes
):
    passage = Passage(proxy=PROXIES)
    if data:
        passage.gate.data_received(data)

    if finishes:
        passage.gate.eof_received()
    passage.lose()

    assert passage.endings == [(reason, "proxy")]
    assert passage.told == ["leave"] * finishes
    assert passage.left_behind == []


def test_shutting_down_ends_a_header():
    passage = Passage(proxy=PROXIES)

    passage.gate.shut_down()
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("shutdown", "proxy")]


def test_an_observer_that_shuts_us_down_ends_a_header():
    passage = Passage(opened=False, proxy=PROXIES, observers=[lambda _: passage.gate.shut_down()])
    passage.gate.open()
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("shutdown", "proxy")]


@pytest.mark.parametrize("early", [b"", b"\x16\x03\x01"])
def test_tls_comes_behind_the_header(early):
    passage = Passage(proxy=PROXIES, tls=True)

    passage.gate.data_received(HEADER + early)
    assert passage.gate.phase == "tls"
    passage.gate.tls_established(TlsFacts("chat"))
    passage.gate.data_received(b"yes\n")

    assert passage.gate.facts == PeerFacts(CLIENT.address, CLIENT.local, TlsFacts("chat"))
    assert passage.told == [*([("start TLS", early)] if early else []), b"OK\n", "close"]


def test_a_plain_connection_is_not_begun_again_by_tls():
    passage = Passage()

    passage.gate.tls_established(TlsFacts("late"))

    assert passage.gate.facts == FACTS


# Admission


def test_admission_is_asked_before_anything_else_happens():
    tickets = Tickets()
    passage = Passage(admission=tickets)

    assert tickets.asked == [PEER]
    passage.lose()
    assert tickets.released == 1


@pytest.mark.parametrize("tls", [False, True])
def test_admission_hears_who_the_peer_is_and_whether_tls_comes_first(tls):
    tickets = Tickets()
    passage = Passage(admission=tickets, opened=False)
    passage.gate.facts = PeerFacts(PEER, LOCAL, uid=1000)

    passage.gate.open(tls)

    assert tickets.facts == [{"uid": 1000, "tls": tls}]


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (b"yes\n", ("accepted", False)),
        (b"no\n", ("rejected", False)),
        (b"y", ("timeout", False)),
        (b"", ("timeout", True)),
    ],
)
def test_admission_hears_the_verdict_once_and_whether_the_peer_was_silent(said, verdict):
    tickets = Tickets()
    passage = Passage(admission=tickets)

    passage.gate.data_received(said)
    passage.clock.advance(20)
    passage.lose()

    assert tickets.verdicts == [verdict]
    assert tickets.released == 1


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ([], ("timeout", True)),
        (["tls_received"], ("timeout", False)),
        (["tls_received", "tls_overflowed"], ("limit", False)),
    ],
)
def test_a_peer_that_begins_tls_is_not_silent(said, verdict):
    tickets = Tickets()
    passage = Passage(admission=tickets, tls=True)

    for each in said:
        getattr(passage.gate, each)()
    passage.clock.advance(20)
    passage.lose()

    assert tickets.verdicts == [verdict]
    assert passage.left_behind == []


@pytest.mark.parametrize(
    ("said", "verdicts"),
    [
        (b"", [("timeout", True)]),
        (b"PROXY TCP4", [("timeout", False)]),
        # What a proxy has said of a peer is nothing that the peer has said.
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", [("timeout", True)]),
    ],
)
@pytest.mark.parametrize("tls", [False, True])
def test_behind_a_proxy_a_peer_is_silent_until_it_says_something_itself(said, verdicts, tls):
    caps = Caps()
    passage = Passage(admission=caps, tls=tls, proxy=PROXIES)

    if said:
        passage.gate.data_received(said)
    passage.clock.advance(20)
    passage.lose()

    held = [each for ticket in caps.held for each in ticket.verdicts]
    assert held + caps.verdicts == verdicts
    assert passage.left_behind == []


def test_tls_that_takes_too_much_ends_the_connection():
    passage = Passage(tls=True, max_tls_bytes=1000)

    passage.gate.tls_overflowed()
    passage.lose()

    words = "peer sent more than 1000 bytes, the limit set by max_tls_bytes"
    assert passage.verdicts == [("limit", "tls", words)]
    assert passage.told == ["leave"]
    assert passage.endings == [("limit", "tls")]
    assert passage.left_behind == []


def test_under_pressure_there_is_less_time():
    tickets = Tickets()
    tickets.patience = 0.2
    passage = Passage(admission=tickets, idle_timeout=inf, handshake_timeout=10)

    passage.clock.advance(1.9)
    assert passage.verdicts == []
    passage.clock.advance(0.4)

    assert [each[0] for each in passage.verdicts] == ["timeout"]


def test_a_peer_that_is_refused_is_gone_without_a_byte_and_without_a_handshake():
    async def never(peer):
        raise AssertionError("begun")

    passage = Passage(runs(never), admission=Tickets("too many"))
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.events == [
        ConnectionOpened(1, PEER, LOCAL),
        HandshakeEnded(
            1, PEER, LOCAL, "refused", "admission", "too many", None, None, 0.0, 0, ANY_REJECTED
        ),
        ConnectionEnded(1, PEER, LOCAL, Ending("refused", "admission"), None, 0.0),
    ]
    [(verdict, session)] = passage.wire.verdicts
    assert (str(verdict), session) == ("peer rejected the handshake: too many", None)
    assert passage.left_behind == []


class _AnyRejected:
    def __eq__(self, other):
        return isinstance(other, Rejected)


ANY_REJECTED = _AnyRejected()


def test_a_peer_that_is_refused_may_say_what_it_likes():
    passage = Passage(admission=Tickets("too many"))

    passage.gate.data_received(b"yes\n")
    passage.gate.eof_received()
    passage.gate.shut_down()
    passage.clock.advance(100)

    assert passage.told == ["leave"]
    assert len(passage.verdicts) == 1


def turned_away(goodbye=b"busy\n", **more):
    return Passage(admission=Tickets(Refusal("too many", goodbye)), **more)


def test_a_peer_that_is_refused_may_be_told_why():
    passage = turned_away()
    assert passage.told == [b"busy\n", "half-close"]

    passage.gate.data_received(b"yes\n")
    passage.gate.eof_received()
    passage.lose()

    assert passage.told == [b"busy\n", "half-close", "close"]
    assert passage.verdicts == [("refused", "admission", "too many")]
    assert passage.endings == [("refused", "closing")]
    assert passage.left_behind == []


def test_a_peer_that_does_not_hear_why_it_is_refused_is_gone_by_a_bound():
    passage = turned_away(close_timeout=5)

    passage.clock.advance(4.9)
    assert passage.told == [b"busy\n", "half-close"]
    passage.clock.advance(0.3)
    assert passage.told == [b"busy\n", "half-close", "abort"]
    passage.lose()

    assert passage.endings == [("refused", "closing")]
    assert passage.left_behind == []


def test_before_tls_nobody_is_told_why_it_is_refused():
    passage = turned_away(tls=True)

    assert passage.told == ["leave"]


def test_a_peer_that_is_gone_while_it_is_told_why_is_gone():
    passage = turned_away(opened=False)
    passage.wire.on_write = lambda _: passage.lose()
    passage.gate.open()

    assert passage.endings == [("refused", "closing")]
    assert passage.left_behind == []


def test_only_so_many_are_waited_for_until_they_have_heard_why():
    passage = turned_away()
    gates = [passage.gate]
    while len(gates) < MAX_TURNED_AWAY:
        gates.append(Gate(passage.terms, Wire(), FACTS))
        gates[-1].open()
    last, another = (Gate(passage.terms, Wire(), FACTS) for _ in range(2))

    last.open()
    assert last._wire.told == [b"busy\n", "half-close", "close"]
    gates[0].wire_lost(Failure(ConnectionDone()))
    another.open()
    assert another._wire.told == [b"busy\n", "half-close"]

    for each in (*gates[1:], last, another):
        each.wire_lost(Failure(ConnectionDone()))
    assert passage.endings == [("refused", "closing")] * (MAX_TURNED_AWAY + 2)
    assert passage.left_behind == [*passage.terms.turned_away] == []


def test_who_would_have_been_refused_is_let_in_and_told_of():
    tickets = Tickets()
    tickets.waived = "max_connections: 1 of 1 connections are taken"
    passage = Passage(admission=tickets)
    passage.gate.data_received(b"yes\n")
    passage.lose()

    assert passage.told == [b"OK\n", "close"]
    assert passage.events[:2] == [
        ConnectionOpened(1, PEER, LOCAL),
        RefusalWaived(1, PEER, LOCAL, tickets.waived),
    ]
    assert [each.reason for each in passage.events if isinstance(each, HandshakeEnded)] == [
        "accepted"
    ]


def test_nobody_needs_to_be_told_who_would_have_been_refused():
    tickets = Tickets()
    tickets.waived = "too many"
    passage = Passage(admission=tickets, observers=None)
    passage.gate.data_received(b"yes\n")

    assert passage.told == [b"OK\n", "close"]


class Oops(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, Oops])
def test_an_admission_that_breaks_lets_nobody_in(error):
    class Broken:
        def admit(self, address, **facts):
            raise error("oops")

    passage = Passage(admission=Broken())
    passage.gate.data_received(b"yes\n")
    passage.lose()

    assert passage.told == ["leave"]
    words = f"the admission raised {error('oops')!r}"
    assert passage.verdicts == [("crashed", "admission", words)]
    assert passage.endings == [("crashed", "admission")]
    assert passage.left_behind == []


@pytest.mark.parametrize("tls", [False, True])
def test_an_admission_that_shuts_us_down_lets_nobody_in(tls):
    class Closes:
        def admit(self, address, **facts):
            passage.terms.shut_down()
            return Tickets()

    passage = Passage(admission=Closes(), opened=False)
    passage.gate.open(tls=tls)
    passage.lose()

    phase = "tls" if tls else "handshake"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("shutdown", phase, "we are shutting down")]
    assert passage.endings == [("shutdown", phase)]
    assert passage.left_behind == []


def test_a_ticket_is_released_once_after_a_session():
    tickets = Tickets()
    passage = Passage(session=Sessions(), admission=tickets)
    passage.gate.data_received(b"yes\n")
    assert tickets.released == 0

    passage.wire.lease.connection_lost(Failure(ConnectionDone()))

    assert tickets.released == 1


def test_a_ticket_that_breaks_does_not_keep_the_ending_from_anybody(logged):
    class Broken(Tickets):
        def release(self):
            raise ZeroDivisionError("oops")

    passage = Passage(admission=Broken())
    passage.lose()

    assert passage.endings == [("probe", "handshake")]
    assert passage.left_behind == []
    assert len(logged.take()) == 1


# The verdict


def test_an_accept_without_a_session_replies_and_closes():
    passage = Passage()

    passage.gate.data_received(b"yes\n")

    assert passage.told == [b"OK\n", "close"]
    assert passage.wire.verdicts == [(Accept(b"OK\n", identity="ann"), None)]


def test_an_accept_of_a_peer_that_talks_on_lingers():
    passage = Passage()

    passage.gate.data_received(b"yes\nand more")

    assert passage.told == [b"OK\n", "half-close"]


def test_a_reject_lingers():
    passage = Passage()

    passage.gate.data_received(b"no\n")

    assert passage.told == [b"NO\n", "half-close"]
    assert passage.verdicts == [("rejected", "handshake", "wrong word")]
    [(verdict, _)] = passage.wire.verdicts
    assert str(verdict) == "peer rejected the handshake: wrong word"


def test_a_peer_that_has_finished_is_not_lingered_for():
    async def reads_all(peer):
        return Reject(b"NO\n" + await peer.receive_to_end(10))

    passage = Passage(runs(reads_all))
    passage.gate.data_received(b"all")
    passage.gate.eof_received()

    assert passage.told == [b"NO\nall", "close"]


def test_a_peer_that_finishes_during_the_goodbye_is_closed():
    passage = Passage()
    passage.gate.data_received(b"no\n")

    passage.gate.data_received(b"but why?" * 100000)
    passage.gate.eof_received()
    passage.lose()

    assert passage.told == [b"NO\n", "half-close", "close"]
    assert passage.endings == [("rejected", "closing")]
    assert passage.left_behind == []


@pytest.mark.parametrize("line", [b"yes\n", b"yes\nand more", b"no\n"])
def test_a_goodbye_that_does_not_finish_is_aborted_by_its_bound(line):
    passage = Passage(close_timeout=3)
    passage.clock.advance(4)
    passage.gate.data_received(line)
    said = list(passage.told)

    passage.clock.advance(2.9)
    passage.gate.data_received(b"still here")
    assert passage.told == said
    passage.clock.advance(0.2)
    assert passage.told == [*said, "abort"]
    passage.lose()

    assert passage.left_behind == []


def test_a_goodbye_that_is_over_at_once_leaves_no_deadline():
    passage = Passage()
    passage.wire.close = passage.lose

    passage.gate.data_received(b"yes\n")

    assert passage.endings == [("accepted", "closing")]
    assert passage.left_behind == []


def test_whatever_follows_the_verdict_changes_nothing():
    passage = Passage()
    passage.gate.data_received(b"no\n")

    passage.gate.data_received(b"yes\n")
    passage.gate.write_stalled()
    passage.gate.shut_down()
    passage.gate.tls_established(TlsFacts())
    passage.lose()

    assert passage.told == [b"NO\n", "half-close"]
    assert passage.verdicts == [("rejected", "handshake", "wrong word")]
    assert passage.endings == [("rejected", "closing")]


def test_the_end_of_a_connection_is_told_once():
    passage = Passage()

    passage.lose()
    passage.lose()

    assert len(passage.verdicts) == len(passage.endings) == 1


# The session


def test_an_accept_with_a_session_replies_and_hands_over_what_is_left():
    sessions = Sessions()
    passage = Passage(session=sessions)

    passage.gate.data_received(b"yes\nhello")

    accept = Accept(b"OK\n", identity="ann")
    assert passage.told == [b"OK\n", "hand over"]
    assert passage.wire.handed == (accept, b"hello", False)
    assert passage.wire.verdicts == [(accept, sessions.built[0])]
    assert set(passage.terms.live) == {passage.wire.lease}
    assert passage.clock.getDelayedCalls() == []


def test_an_accept_without_a_reply_writes_nothing():
    async def silent(peer):
        return Accept()

    passage = Passage(runs(silent), Sessions())

    assert passage.told == ["hand over"]


def test_a_gate_that_has_handed_over_has_nothing_to_end():
    passage = Passage(session=Sessions())
    passage.gate.data_received(b"yes\n")

    passage.lose()

    assert passage.endings == []


def test_a_handshake_chooses_one_of_several_sessions():
    chat, echo = Sessions(), Sessions()

    async def choose(peer):
        assert peer.sessions == ("chat", "echo")
        return Accept(session=(await peer.receive_line(10)).decode())

    passage = Passage(runs(choose), {"chat": chat, "echo": echo}, opened=False)
    passage.gate.facts = PeerFacts(PEER, LOCAL, sessions=("chat", "echo"))
    passage.gate.open()
    passage.gate.data_received(b"echo\n")

    assert (len(chat.built), len(echo.built)) == (0, 1)
    assert [each.session for each in passage.events[1:]] == ["echo"]


def test_an_unknown_session_is_no_session():
    async def choose(peer):
        return Accept(session="chat")

    sessions = Sessions()
    passage = Passage(runs(choose), {"echo": sessions}, opened=False)
    passage.gate.facts = PeerFacts(PEER, LOCAL, sessions=("echo",))
    passage.gate.open()

    assert (passage.told, sessions.built) == (["leave"], [])
    [(reason, _, detail)] = passage.verdicts
    assert reason == "crashed"
    assert detail.endswith("chose the session 'chat', which is not on offer: echo")


def test_a_factory_that_declines_refuses_the_peer():
    passage = Passage(session=Sessions(lambda: None), opened=False)
    passage.wire.build_session = lambda factory: None
    passage.gate.open()
    passage.gate.data_received(b"yes\n")
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.verdicts == [("refused", "handshake", "the session's factory declined the peer")]
    assert passage.endings == [("refused", "handshake")]
    assert [str(each) for each, _ in passage.wire.verdicts] == [
        "peer rejected the handshake: the session's factory declined the peer"
    ]


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, Oops])
def test_a_factory_that_breaks_lets_nobody_in(error):
    def fail(factory):
        raise error("oops")

    passage = Passage(session=Sessions(), opened=False)
    passage.wire.build_session = fail
    passage.gate.open()
    passage.gate.data_received(b"yes\nhello")
    passage.lose()

    assert passage.told == ["leave"]
    words = f"the session's factory raised {error('oops')!r}"
    assert passage.verdicts == [("crashed", "handshake", words)]
    assert [each.received for each in passage.events if isinstance(each, HandshakeEnded)] == [9]
    assert passage.endings == [("crashed", "handshake")]
    [(verdict, _)] = passage.wire.verdicts
    assert isinstance(verdict, HandshakeFailed)
    assert isinstance(verdict.__cause__, error)


def test_a_factory_during_which_the_wire_is_lost_has_no_session():
    def loses(factory):
        passage.lose()
        raise ZeroDivisionError("oops")

    passage = Passage(session=Sessions(), opened=False)
    passage.wire.build_session = loses
    passage.gate.open()
    passage.gate.data_received(b"yes\n")

    assert passage.told == []
    assert passage.verdicts == [
        ("lost", "handshake", "peer disconnected after 4 bytes, expected a session to begin")
    ]
    assert passage.endings == [("lost", "handshake")]
    assert passage.left_behind == []


def test_what_comes_while_the_session_is_built_is_the_sessions():
    def meanwhile(factory):
        passage.gate.data_received(b" and prompt")
        passage.gate.eof_received()
        passage.gate.write_stalled()
        return object()

    passage = Passage(session=Sessions(), opened=False)
    passage.wire.build_session = meanwhile
    passage.gate.open()
    passage.gate.data_received(b"yes\nhello")

    assert passage.wire.handed == (Accept(b"OK\n", identity="ann"), b"hello and prompt", True)
    assert len(passage.verdicts) == 1


# The two clocks


def test_a_peer_that_says_nothing_is_timed_out_by_the_idle_clock():
    passage = Passage(idle_timeout=5, handshake_timeout=60)

    passage.clock.advance(4.9)
    assert passage.told == []
    passage.clock.advance(0.2)
    passage.lose()

    assert passage.told == ["leave"]
    words = "nothing heard for 5 s in receive_line(max_bytes=64), the limit set by idle_timeout"
    assert passage.verdicts == [("timeout", "handshake", words)]
    assert passage.endings == [("timeout", "handshake")]
    [(verdict, _)] = passage.wire.verdicts
    assert isinstance(verdict, HandshakeTimeout)
    assert passage.left_behind == []


def test_every_byte_starts_the_idle_clock_anew():
    passage = Passage(idle_timeout=5, handshake_timeout=60)
    for _ in range(5):
        passage.clock.advance(4.8)
        passage.gate.data_received(b"x")

    passage.clock.advance(4.9)
    assert passage.verdicts == []
    passage.clock.advance(0.2)

    assert [each[0] for each in passage.verdicts] == ["timeout"]


def test_a_peer_that_drips_is_timed_out_by_the_handshake_clock():
    passage = Passage(idle_timeout=5, handshake_timeout=10)
    for _ in range(99):
        passage.clock.advance(0.1)
        passage.gate.data_received(b"")
    assert passage.verdicts == []
    for _ in range(13):
        passage.clock.advance(0.1)
        passage.gate.data_received(b"")

    words = (
        "not finished after 10 s in receive_line(max_bytes=64), the limit set by handshake_timeout"
    )
    assert passage.verdicts == [("timeout", "handshake", words)]


@pytest.mark.parametrize(("chance", "due"), [(0.0, 10.0), (0.5, 10.5), (0.999, 10.999)])
def test_the_handshake_clock_has_its_time_and_up_to_a_tenth_more(monkeypatch, chance, due):
    monkeypatch.setattr("sockproto.transport.gate.random", lambda: chance)
    passage = Passage(idle_timeout=inf, handshake_timeout=10)

    passage.clock.advance(due - 0.01)
    assert passage.verdicts == []
    passage.clock.advance(0.15)

    assert [each[0] for each in passage.verdicts] == ["timeout"]


def test_the_idle_clock_stands_still_while_the_handshake_waits_for_a_deferred():
    answer = Deferred()
    passage = Passage(Asks(answer), idle_timeout=2, handshake_timeout=60)

    passage.clock.advance(50)
    passage.gate.data_received(b"hello?")
    passage.clock.advance(9)
    assert passage.verdicts == []
    answer.callback(None)

    assert passage.told == [b"OK\n", "half-close"]


def test_the_idle_clock_starts_anew_after_a_deferred():
    answer = Deferred()

    async def asks_then_listens(peer):
        await answer
        return await Word().serve(peer)

    passage = Passage(runs(asks_then_listens), idle_timeout=2, handshake_timeout=60)
    passage.clock.advance(30)
    answer.callback(None)

    passage.clock.advance(1.9)
    assert passage.verdicts == []
    passage.clock.advance(0.2)

    assert passage.verdicts == [
        (
            "timeout",
            "handshake",
            "nothing heard for 2 s in receive_line(max_bytes=64), the limit set by idle_timeout",
        )
    ]
    # It was filed for the handshake clock first.
    assert passage.clock.getDelayedCalls() == []


def test_a_deferred_that_never_fires_is_ended_by_the_handshake_clock():
    asked = Asks(Deferred())
    passage = Passage(asked, idle_timeout=2, handshake_timeout=10)

    passage.clock.advance(11.1)

    words = "not finished after 10 s in Deferred, the limit set by handshake_timeout"
    assert passage.verdicts == [("timeout", "handshake", words)]
    assert asked.seen == [f"HandshakeTimeout({words!r})"]
    assert asked.deferreds[0].called


def test_tls_is_bounded_by_the_handshake_clock():
    passage = Passage(tls=True, idle_timeout=1, handshake_timeout=10)

    passage.clock.advance(9.9)
    assert passage.verdicts == []
    passage.clock.advance(1.3)
    passage.lose()

    words = "not finished after 10 s in the TLS handshake, the limit set by handshake_timeout"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("timeout", "tls", words)]
    assert passage.endings == [("timeout", "tls")]
    [(verdict, _)] = passage.wire.verdicts
    assert isinstance(verdict, HandshakeTimeout)


def test_the_handshake_clock_does_not_start_anew_with_tls():
    passage = Passage(tls=True, idle_timeout=inf, handshake_timeout=10)
    passage.clock.advance(9)
    passage.gate.tls_established(TlsFacts())

    passage.clock.advance(2.1)

    assert [each[:2] for each in passage.verdicts] == [("timeout", "handshake")]


def test_tls_that_comes_too_late_begins_nothing():
    passage = Passage(tls=True)
    passage.clock.advance(12)

    passage.gate.tls_established(TlsFacts())
    passage.gate.shut_down()

    assert passage.told == ["leave"]
    assert len(passage.verdicts) == 1


def test_without_timeouts_there_is_no_timer():
    passage = Passage(idle_timeout=inf, handshake_timeout=inf)

    assert passage.clock.getDelayedCalls() == []
    passage.clock.advance(1e6)
    passage.gate.data_received(b"yes\n")

    assert passage.told[0] == b"OK\n"


# The budgets


def test_a_peer_that_sends_more_than_the_budget_is_sent_away():
    async def greedy(peer):
        return Accept(await peer.receive_until(b"!", 100))

    passage = Passage(runs(greedy), max_handshake_bytes=10)
    passage.gate.data_received(b"x" * 11)
    passage.lose()

    words = "peer sent more than 10 bytes, the limit set by max_handshake_bytes"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("limit", "handshake", words)]
    assert passage.endings == [("limit", "handshake")]


def test_what_follows_the_handshake_does_not_count():
    passage = Passage(session=Sessions(), max_handshake_bytes=4)

    passage.gate.data_received(b"yes\n" + b"x" * 60000)

    assert passage.wire.handed == (Accept(b"OK\n", identity="ann"), b"x" * 60000, False)


def test_a_peer_that_leaves_too_much_unread_is_sent_away():
    passage = Passage()

    passage.gate.write_stalled()

    words = "peer left unread more than 65536 bytes, the limit set by the write buffer"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("limit", "handshake", words)]


def test_a_peer_that_does_not_read_what_is_being_written_is_sent_away():
    async def floods(peer):
        peer.send(b"x" * 60000)
        return await Word().serve(peer)

    passage = Passage(runs(floods), opened=False)
    passage.wire.on_write = lambda data: passage.gate.write_stalled()
    passage.gate.open()

    assert passage.told == [b"x" * 60000, "leave"]
    assert [each[0] for each in passage.verdicts] == ["limit"]


def test_a_handshake_that_queues_too_much_is_ended():
    async def floods(peer):
        peer.send(b"x" * 65537)

    passage = Passage(runs(floods))

    words = "peer was owed more than 65536 bytes, the limit set by max_unsent"
    assert passage.told == ["leave"]
    assert passage.verdicts == [("limit", "handshake", words)]


def test_reading_pauses_at_the_budget_while_a_deferred_is_awaited_and_resumes_after_it():
    answer = Deferred()

    async def asks_then_listens(peer):
        await answer
        return await Word().serve(peer)

    passage = Passage(runs(asks_then_listens), max_handshake_bytes=10)
    passage.gate.data_received(b"yes\n")
    passage.gate.data_received(b"123456")
    assert passage.told == []
    passage.gate.data_received(b"7")
    passage.gate.data_received(b"8")
    assert passage.told == ["pause"]
    answer.callback(None)

    assert passage.told == ["pause", "resume", b"OK\n", "half-close"]


def test_reading_pauses_at_once_if_the_budget_is_passed_before_a_deferred_is_awaited():
    answer = Deferred()

    async def listens_then_asks(peer):
        await peer.receive_line(10)
        await answer
        return Accept(await peer.receive_line(10))

    passage = Passage(runs(listens_then_asks), Sessions(), max_handshake_bytes=10)
    passage.gate.data_received(b"yes\n" + b"again\n" + b"x" * 1000)
    assert passage.told == ["pause"]
    answer.callback(None)

    assert passage.told == ["pause", "resume", b"again", "hand over"]
    assert passage.wire.handed[1] == b"x" * 1000


def test_reading_stays_paused_from_one_deferred_to_the_next():
    first, second = Deferred(), Deferred()
    passage = Passage(Asks(first, second), max_handshake_bytes=10)
    passage.gate.data_received(b"x" * 11)

    first.callback(None)
    assert passage.told == ["pause"]
    second.callback(None)

    assert passage.told == ["pause", "resume", b"OK\n", "half-close"]


def test_reading_resumes_when_a_handshake_that_was_paused_reads_on():
    answer = Deferred()

    async def tolerant(peer):
        await answer
        return Accept(await peer.receive_until(b"!", 10))

    passage = Passage(runs(tolerant), max_handshake_bytes=11)
    passage.gate.data_received(b"x" * 12)
    answer.callback(None)

    assert passage.told == ["pause", "resume", "leave"]
    assert [each[0] for each in passage.verdicts] == ["limit"]


def test_there_is_nothing_to_pause_after_the_end():
    answer = Deferred()

    async def listens_then_asks(peer):
        await peer.receive_to_end(100)
        await answer
        return Accept(b"OK\n")

    passage = Passage(runs(listens_then_asks), max_handshake_bytes=10)
    passage.gate.data_received(b"x" * 10)
    passage.gate.eof_received()
    passage.gate.data_received(b"")
    answer.callback(None)

    assert passage.told == [b"OK\n", "close"]


def test_a_reading_that_was_paused_goes_on_when_the_bytes_have_room_again():
    first = Deferred()

    async def asks_and_waits(peer):
        await first
        return Accept(await peer.receive_exactly(12))

    passage = Passage(runs(asks_and_waits), max_handshake_bytes=12)
    passage.gate.data_received(b"x" * 11)
    first.callback(None)
    assert passage.told == []
    passage.gate.data_received(b"x")

    assert passage.told == [b"x" * 12, "close"]


# Deferreds


def test_a_deferred_gives_the_handshake_its_result():
    answer = Deferred()
    asked = Asks(answer)
    passage = Passage(asked)
    answer.addCallback(str.upper)

    answer.callback("ann")

    assert asked.seen == ["ann"]
    assert passage.told == [b"OK\n", "close"]
    assert answer.result == "ANN"


def test_a_deferred_that_has_fired_already_takes_no_time():
    answer = Deferred()
    answer.callback("ann")

    assert Passage(Asks(answer)).told == [b"OK\n", "close"]


def test_a_deferred_that_waits_for_another_is_waited_for():
    outer, inner = Deferred(), Deferred()
    outer.addCallback(lambda _: inner)
    outer.callback(None)
    asked = Asks(outer)
    passage = Passage(asked)
    assert passage.told == []

    inner.callback("ann")

    assert asked.seen == ["ann"]
    assert passage.told == [b"OK\n", "close"]


def test_a_deferred_that_fails_is_a_broken_handshake_and_goes_no_further(logged):
    answer = Deferred()
    asked = Asks(answer)
    passage = Passage(asked)

    answer.errback(ZeroDivisionError("oops"))
    passage.lose()

    assert asked.seen == ["ZeroDivisionError('oops')"]
    assert passage.told == ["leave"]
    [(reason, _, detail)] = passage.verdicts
    assert reason == "crashed"
    assert detail.startswith("Asks.serve raised ZeroDivisionError: oops at kit.py:")
    del answer, asked
    assert logged.take() == []


def test_a_handshake_may_catch_the_failure_of_a_deferred():
    answer = Deferred()

    async def asks(peer):
        try:
            await answer
        except ZeroDivisionError:
            return Reject(b"try later\n", reason="the directory is down")

    passage = Passage(runs(asks))
    answer.errback(ZeroDivisionError("oops"))

    assert passage.told == [b"try later\n", "half-close"]


def test_two_handshakes_that_share_a_deferred_both_see_its_failure(logged):
    answer = Deferred()
    first, second = Asks(answer), Asks(answer)
    passages = [Passage(first), Passage(second)]

    answer.errback(ZeroDivisionError("oops"))

    assert first.seen == second.seen == ["ZeroDivisionError('oops')"]
    assert [each.told for each in passages] == [["leave"], ["leave"]]
    del answer
    first.deferreds.clear()
    second.deferreds.clear()
    assert logged.take() == []


def test_two_handshakes_that_share_a_deferred_both_see_its_result():
    answer = Deferred()
    first, second = Asks(answer), Asks(answer)
    Passage(first), Passage(second)

    answer.callback("ann")

    assert first.seen == second.seen == ["ann"]


def test_a_connection_that_is_lost_cancels_the_deferred(logged):
    cancelled = []
    asked = Asks(Deferred(cancelled.append))
    passage = Passage(asked)

    passage.lose(ConnectionLost())

    words = "peer disconnected after 0 bytes, expected it to wait for us"
    assert cancelled == asked.deferreds
    assert asked.seen == [f"PeerDisconnected({words!r})"]
    assert passage.verdicts == [("probe", "handshake", words)]
    assert passage.left_behind == []
    asked.deferreds.clear()
    cancelled.clear()
    assert logged.take() == []


def test_a_deferred_that_fires_too_late_goes_nowhere(logged):
    class Deaf(Deferred):
        def cancel(self):
            pass

    answer = Deaf()
    asked = Asks(answer)
    passage = Passage(asked)
    passage.lose()

    answer.errback(ZeroDivisionError("oops"))
    del answer
    asked.deferreds.clear()

    assert len(passage.verdicts) == 1
    assert passage.left_behind == []
    assert logged.take() == []


def test_a_deferred_that_is_replaced_by_another_while_it_fires_is_done_with():
    first, second = Deferred(), Deferred()
    asked = Asks(first, second)
    passage = Passage(asked)

    first.callback(1)
    assert passage.told == []
    second.callback(2)

    assert asked.seen == [1, 2]
    assert passage.told == [b"OK\n", "close"]


def test_a_deferred_that_fires_while_something_is_written_is_not_missed():
    answer = Deferred()

    async def asks(peer):
        peer.send(b"wait\n")
        await answer
        return Accept(b"OK\n")

    passage = Passage(runs(asks), opened=False)
    passage.wire.on_write = lambda data: answer.called or answer.callback(None)
    passage.gate.open()

    assert passage.told == [b"wait\n", b"OK\n", "close"]


def test_a_handshake_that_breaks_by_what_it_waited_for_is_not_the_peers_fault(logged):
    answer, tickets = Deferred(), Tickets()
    passage = Passage(Asks(answer), admission=tickets)

    answer.errback(Failure(ConnectionLost("the directory is gone")))
    passage.lose()

    assert passage.verdicts[0][0] == "crashed"
    assert (tickets.verdicts, tickets.ours) == ([("crashed", True)], [True])


@pytest.mark.parametrize("translated", [False, True])
def test_a_handshake_that_breaks_by_what_had_failed_is_not_the_peers_fault(translated, logged):
    tickets = Tickets()

    async def serve(peer):
        try:
            await fail(ConnectionLost("the directory is gone"))
        except ConnectionLost as error:
            if translated:
                raise RuntimeError("no directory") from error
            raise

    passage = Passage(runs(serve), admission=tickets)
    passage.lose()

    assert (tickets.verdicts, tickets.ours) == ([("crashed", True)], [True])


def test_a_handshake_that_is_late_because_of_what_it_waits_for_is_not_the_peers_fault():
    tickets = Tickets()
    passage = Passage(Asks(Deferred()), admission=tickets)

    passage.clock.advance(20)
    passage.lose()

    assert (tickets.verdicts, tickets.ours) == ([("timeout", True)], [True])


@pytest.mark.parametrize("then", ["says no", "breaks later"])
def test_a_failure_that_a_handshake_has_dealt_with_excuses_nobody(then):
    answer, tickets = Deferred(), Tickets()

    async def serve(peer):
        try:
            await answer
        except ConnectionLost:
            if then == "says no":
                return Reject(reason="nobody knows you")
        await peer.receive_line(64)
        raise ZeroDivisionError("oops")

    passage = Passage(runs(serve), admission=tickets)
    answer.errback(Failure(ConnectionLost()))
    passage.gate.data_received(b"yes\n")
    passage.lose()

    assert passage.verdicts[0][0] == ("rejected" if then == "says no" else "crashed")
    assert tickets.ours == [False]


def test_a_handshake_that_cannot_be_cancelled_is_ended_all_the_same(logged):
    def refuses(_):
        raise ZeroDivisionError("oops")

    passage = Passage(Asks(Deferred(refuses)))

    passage.gate.shut_down()
    passage.lose()

    assert passage.told == ["leave"]
    assert len(passage.verdicts) == len(passage.endings) == 1
    logged.take()


# The end of the peer


def test_a_peer_that_comes_and_leaves_without_a_byte_is_a_probe():
    passage = Passage()
    passage.lose()

    words = "peer disconnected after 0 bytes, expected a line"
    assert passage.verdicts == [("probe", "handshake", words)]
    assert passage.endings == [("probe", "handshake")]


def test_a_peer_that_comes_and_finishes_without_a_byte_is_a_probe():
    passage = Passage()
    passage.gate.eof_received()
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("probe", "handshake")]


def test_a_peer_that_is_reset_before_its_first_byte_is_a_probe():
    passage = Passage()
    passage.lose(ConnectionLost())

    words = "peer disconnected after 0 bytes, expected receive_line(max_bytes=64)"
    assert passage.verdicts == [("probe", "handshake", words)]


def test_a_probe_that_is_told_no_is_a_probe():
    async def reads_all(peer):
        return Accept() if await peer.receive_to_end(10) else Reject(b"NO\n")

    passage = Passage(runs(reads_all))
    passage.gate.eof_received()
    passage.lose()

    assert passage.told == [b"NO\n", "close"]
    assert passage.endings == [("probe", "closing")]


def test_whoever_is_told_no_before_it_has_said_anything_is_rejected():
    async def closed(peer):
        return Reject(b"we are closed\n", reason="closed")

    passage = Passage(runs(closed))
    passage.lose()

    assert passage.endings == [("rejected", "closing")]


def test_a_client_that_is_left_alone_was_not_probed():
    passage = Passage(serving=False)
    passage.lose()

    words = "peer disconnected after 0 bytes, expected 3 bytes"
    assert passage.verdicts == [("lost", "handshake", words)]


def test_a_peer_that_leaves_in_the_middle_is_lost():
    passage = Passage()
    passage.gate.data_received(b"ye")
    passage.lose(ConnectionLost())

    words = "peer disconnected after 2 bytes, expected receive_line(max_bytes=64)"
    assert passage.verdicts == [("lost", "handshake", words)]
    [(verdict, _)] = passage.wire.verdicts
    assert isinstance(verdict, PeerDisconnected)
    assert passage.endings == [("lost", "handshake")]


def test_an_end_of_the_connection_is_an_end_of_the_stream():
    async def reads_all(peer):
        return Accept(identity=(await peer.receive_to_end(10)).decode())

    passage = Passage(runs(reads_all))
    passage.gate.data_received(b"ann")
    passage.lose(ConnectionDone())

    assert passage.verdicts == [("accepted", "handshake", "")]
    assert passage.wire.verdicts == [(Accept(identity="ann"), None)]
    assert passage.endings == [("accepted", "handshake")]


def test_a_connection_that_is_gone_has_no_session():
    async def reads_all(peer):
        return Accept(await peer.receive_to_end(10))

    sessions = Sessions()
    passage = Passage(runs(reads_all), sessions)
    passage.gate.data_received(b"ann")
    passage.lose(ConnectionDone())

    assert sessions.built == []
    assert passage.verdicts == [
        ("lost", "handshake", "peer disconnected after 3 bytes, expected a session to begin")
    ]


def test_tls_that_fails_is_a_violation():
    from OpenSSL import SSL

    passage = Passage(tls=True)
    passage.lose(SSL.Error([("SSL routines", "", "http request")]))

    [(reason, phase, detail)] = passage.verdicts
    assert (reason, phase) == ("violation", "tls")
    assert detail.startswith("no TLS: ")
    assert "http request" in detail
    assert passage.endings == [("violation", "tls")]


@pytest.mark.parametrize(("serving", "reason"), [(True, "probe"), (False, "lost")])
def test_a_peer_that_leaves_during_tls_is_a_probe_or_lost(serving, reason):
    passage = Passage(tls=True, serving=serving)
    passage.lose()

    assert passage.verdicts == [(reason, "tls", "")]
    assert passage.endings == [(reason, "tls")]
    assert passage.left_behind == []


# Shutting down


def test_shutting_down_ends_a_handshake():
    passage = Passage()
    passage.gate.data_received(b"ye")

    passage.gate.shut_down()
    passage.gate.shut_down()
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.verdicts == [("shutdown", "handshake", "we are shutting down")]
    assert passage.endings == [("shutdown", "handshake")]
    assert isinstance(passage.wire.verdicts[0][0], Shutdown)
    assert passage.left_behind == []


def test_shutting_down_ends_tls():
    passage = Passage(tls=True)

    passage.gate.shut_down()
    passage.gate.shut_down()
    passage.clock.advance(60)
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.verdicts == [("shutdown", "tls", "we are shutting down")]
    assert passage.endings == [("shutdown", "tls")]


async def greets(peer):
    peer.send(b"word? ")
    return await Word().serve(peer)


def test_shutting_down_does_not_reset_a_peer_that_may_be_about_to_answer():
    passage = Passage(runs(greets))

    passage.gate.shut_down()
    passage.gate.data_received(b"yes\n")
    passage.gate.shut_down()
    passage.gate.eof_received()
    passage.lose()

    assert passage.told == [b"word? ", "half-close", "close"]
    assert passage.verdicts == [("shutdown", "handshake", "we are shutting down")]
    assert passage.endings == [("shutdown", "handshake")]
    assert passage.left_behind == []


def test_a_peer_that_does_not_read_when_we_are_shutting_down_is_aborted_by_the_bound():
    passage = Passage(runs(greets), close_timeout=3)

    passage.gate.shut_down()
    passage.clock.advance(2.9)
    assert passage.told == [b"word? ", "half-close", "close"]
    passage.clock.advance(0.2)
    passage.lose()

    assert passage.told[3:] == ["abort"]
    assert passage.left_behind == []


def test_shutting_down_says_goodbye_over_tls():
    passage = Passage(tls=True)
    passage.gate.tls_established(TlsFacts())

    passage.gate.shut_down()

    assert passage.told == ["half-close", "close"]


@pytest.mark.parametrize("when", ["half-close", "close"])
def test_a_peer_that_is_gone_as_soon_as_we_part_leaves_nothing_behind(when):
    passage = Passage(runs(greets))
    setattr(passage.wire, when.replace("-", "_"), lambda: passage.lose())

    passage.gate.shut_down()

    assert passage.endings == [("shutdown", "handshake")]
    assert passage.left_behind == []


def test_shutting_down_leaves_a_goodbye_its_time():
    passage = Passage()
    passage.gate.data_received(b"no\n")

    passage.gate.shut_down()

    assert passage.told == [b"NO\n", "half-close"]


@pytest.mark.parametrize("when", ["first step", "later step"])
@pytest.mark.parametrize("verdict", [Accept(b"OK\n"), Reject(b"NO\n")])
def test_a_handshake_that_shuts_us_down_is_ended_with_its_step(when, verdict):
    async def closes(peer):
        if when == "later step":
            await peer.receive_exactly(1)
        passage.terms.shut_down()
        await peer.receive_exactly(100)
        return verdict

    sessions = Sessions()
    passage = Passage(runs(closes), sessions, opened=False)
    passage.gate.open()
    passage.gate.data_received(b"!")
    passage.lose()

    assert (passage.told, sessions.built) == (["leave"], [])
    assert passage.verdicts == [("shutdown", "handshake", "we are shutting down")]
    assert passage.left_behind == []


@pytest.mark.parametrize("when", ["first step", "later step"])
def test_a_handshake_that_shuts_us_down_and_accepts_has_no_session(when):
    async def closes(peer):
        if when == "later step":
            await peer.receive_exactly(1)
        passage.terms.shut_down()
        return Accept(b"OK\n")

    sessions = Sessions()
    passage = Passage(runs(closes), sessions, opened=False)
    passage.gate.open()
    passage.gate.data_received(b"!")
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("shutdown", "handshake")]
    assert passage.left_behind == []


def test_a_factory_that_shuts_us_down_has_its_session_declined():
    def closes(factory):
        passage.terms.shut_down()
        return object()

    passage = Passage(session=Sessions(), opened=False)
    passage.wire.build_session = closes
    passage.gate.open()
    passage.gate.data_received(b"yes\n")
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.endings == [("shutdown", "handshake")]


@pytest.mark.parametrize("kind", [ConnectionOpened, HandshakeEnded])
@pytest.mark.parametrize("line", [b"yes\n", b"no\n"])
def test_an_observer_may_shut_us_down(kind, line):
    def closes(event):
        if isinstance(event, kind):
            passage.terms.shut_down().addCallback(gone.append)

    gone = []
    passage = Passage(session=Sessions(), opened=False, observers=[closes])
    passage.gate.open()
    passage.gate.data_received(line)
    if passage.wire.lease is not None:
        assert passage.told == [b"OK\n", "hand over", "close"]
        passage.wire.lease.connection_lost(Failure(ConnectionDone()))
    else:
        passage.lose()

    accepted = kind is HandshakeEnded and line == b"yes\n"
    rejected = kind is HandshakeEnded and line == b"no\n"
    assert passage.endings == [
        ("shutdown", "session")
        if accepted
        else ("rejected", "closing")
        if rejected
        else ("shutdown", "handshake")
    ]
    assert gone == [None]
    assert passage.left_behind == []


@pytest.mark.parametrize("when", ["first step", "later step"])
@pytest.mark.parametrize("waits", [False, True])
def test_a_handshake_that_loses_its_own_wire_ends_once(when, waits):
    async def loses(peer):
        if when == "later step":
            await peer.receive_exactly(1)
        passage.lose(ConnectionLost())
        if waits:
            await peer.receive_exactly(100)
        return Accept(b"OK\n")

    sessions = Sessions()
    passage = Passage(runs(loses), sessions, opened=False)
    passage.gate.open()
    passage.gate.data_received(b"!")

    assert (passage.told, sessions.built) == ([], [])
    assert len(passage.verdicts) == len(passage.endings) == len(passage.wire.verdicts) == 1
    assert passage.left_behind == []


# Plug-ins that break


def loop():
    made = asyncio.new_event_loop()
    made.close()
    return made


async def raises(peer):
    await peer.receive_exactly(1)
    raise ZeroDivisionError("oops")


async def exits(peer):
    await peer.receive_exactly(1)
    raise SystemExit(3)


async def returns_nonsense(peer):
    await peer.receive_exactly(1)
    return True


async def returns_nothing(peer):
    await peer.receive_exactly(1)


async def replies_at_length(peer):
    await peer.receive_exactly(1)
    return Accept(b"x" * 100_000_000)


async def awaits_a_future(peer):
    await peer.receive_exactly(1)
    await asyncio.Future(loop=loop())


async def chooses_an_unknown_session(peer):
    await peer.receive_exactly(1)
    return Accept(session="nowhere")


def is_not_async(peer):
    return Accept()


def raises_at_once(peer):
    raise ZeroDivisionError("oops")


BROKEN = {
    raises: "raised ZeroDivisionError: oops at test_gate.py:",
    exits: "raised SystemExit: 3 at test_gate.py:",
    returns_nonsense: "returned a bool, expected Accept or Reject",
    returns_nothing: "returned None, expected Accept or Reject",
    replies_at_length: "replied with 100000000 bytes, the limit set by max_unsent is 65536",
    awaits_a_future: "awaited _asyncio.Future, which nobody here can resume: "
    "wrap it in Deferred.fromFuture()",
    chooses_an_unknown_session: "chose the session 'nowhere', which is not on offer: none",
    is_not_async: "gave a Accept, expected a coroutine: is it async def?",
    raises_at_once: "raised ZeroDivisionError: oops at test_gate.py:",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: each.__name__)
def test_a_handshake_that_breaks_fails_closed(broken):
    tickets = Tickets()
    sessions = Sessions()
    passage = Passage(runs(broken), sessions, admission=tickets)
    passage.gate.data_received(b"!hello")
    passage.lose()

    assert (passage.told, sessions.built) == (["leave"], [])
    [(reason, phase, detail)] = passage.verdicts
    assert (reason, phase) == ("crashed", "handshake")
    assert detail.startswith(f"{broken.__name__} {BROKEN[broken]}")
    [(verdict, _)] = passage.wire.verdicts
    assert isinstance(verdict, HandshakeFailed)
    assert passage.endings == [("crashed", "handshake")]
    assert tickets.released == 1
    assert passage.left_behind == []


def test_a_handshake_that_never_returns_is_ended():
    async def listens_for_ever(peer):
        while True:
            await peer.receive_some(100)

    passage = Passage(runs(listens_for_ever), max_handshake_bytes=10**9)
    for _ in range(120):
        passage.clock.advance(0.1)
        passage.gate.data_received(b"x")

    assert passage.told == ["leave"]
    assert [each[0] for each in passage.verdicts] == ["timeout"]


@pytest.mark.parametrize("times", [1, 2])
def test_a_handshake_that_does_not_let_go_is_ended(times):
    async def stubborn(peer):
        for _ in range(times):
            with suppress(BaseException):
                await peer.receive_some(1)

    passage = Passage(runs(stubborn))
    passage.gate.shut_down()
    passage.lose()

    assert passage.told == ["leave"]
    assert passage.verdicts == [("shutdown", "handshake", "we are shutting down")]
    assert passage.endings == [("shutdown", "handshake")]


def test_what_is_sent_after_the_verdict_is_not_sent():
    kept = []

    async def keeps(peer):
        kept.append(peer)
        return Accept(b"OK\n")

    passage = Passage(runs(keeps), Sessions())
    with pytest.raises(RuntimeError) as raised:
        kept[0].send(b"one more thing")

    assert str(raised.value) == "the handshake is over, nothing can be sent any more"
    assert passage.told == [b"OK\n", "hand over"]


def test_a_peer_that_cannot_be_parsed_is_a_violation():
    async def parses(peer):
        raise ProtocolViolation("a greeting", await peer.receive_exactly(4))

    passage = Passage(runs(parses))
    passage.gate.data_received(b"GET ")

    words = "expected a greeting, got b'GET '; is this an HTTP client?"
    assert passage.verdicts == [("violation", "handshake", words)]


def test_a_handshake_that_is_interrupted_ends_when_its_wire_does():
    async def interrupted(peer):
        await peer.receive_exactly(1)
        raise KeyboardInterrupt

    passage = Passage(runs(interrupted))
    with pytest.raises(KeyboardInterrupt):
        passage.gate.data_received(b"!")
    passage.lose(KeyboardInterrupt())

    assert [each[0] for each in passage.verdicts] == ["crashed"]
    assert passage.endings == [("crashed", "handshake")]
    assert passage.left_behind == []


def test_a_handshake_that_is_interrupted_at_its_first_step_ends_at_once():
    async def interrupted(peer):
        raise KeyboardInterrupt

    passage = Passage(runs(interrupted), opened=False)
    with pytest.raises(KeyboardInterrupt):
        passage.gate.open()
    passage.lose()

    assert passage.told == ["leave"]
    assert [each[0] for each in passage.verdicts] == ["crashed"]
    assert passage.endings == [("crashed", "handshake")]
    assert passage.left_behind == []


# Bytes from the wire while the gate writes to it


def test_bytes_that_come_while_the_gate_writes_are_heard_in_order():
    async def banter(peer):
        peer.send(b"name?")
        name = await peer.receive_line(10)
        peer.send(b"word?")
        return Accept(name + b":" + await peer.receive_line(10))

    answers = {b"name?": b"ann\n", b"word?": b"sesame\nhello"}
    passage = Passage(runs(banter), Sessions(), opened=False)
    passage.wire.on_write = lambda data: passage.gate.data_received(answers.get(data, b", you"))
    passage.gate.open()

    assert passage.told == [b"name?", b"word?", b"ann:sesame", "hand over"]
    assert passage.wire.handed[1] == b"hello, you"


def test_a_wire_that_is_lost_while_the_gate_writes_ends_it():
    async def greets(peer):
        peer.send(b"hello\n")
        return await Word().serve(peer)

    passage = Passage(runs(greets), opened=False)
    passage.wire.on_write = lambda data: passage.lose()
    passage.gate.open()

    assert passage.told == [b"hello\n"]
    assert passage.endings == [("probe", "handshake")]
    assert passage.left_behind == []


def test_a_wire_that_is_lost_while_the_goodbye_is_said_ends_it():
    passage = Passage()
    passage.wire.on_write = lambda data: passage.lose()

    passage.gate.data_received(b"no\n")

    assert passage.endings == [("rejected", "closing")]
    assert passage.left_behind == []


def test_a_wire_that_is_lost_while_the_reply_is_written_has_no_session():
    passage = Passage(session=Sessions(), opened=False)
    passage.wire.on_write = lambda data: passage.lose()
    passage.gate.open()

    passage.gate.data_received(b"yes\n")

    assert passage.told == [b"OK\n"]
    assert passage.verdicts == [
        ("lost", "handshake", "peer disconnected after 4 bytes, expected a session to begin")
    ]
    assert passage.endings == [("lost", "handshake")]
    assert passage.left_behind == []


def test_a_peer_that_does_not_read_before_a_deferred_is_awaited_cancels_it(logged):
    async def greets_and_asks(peer):
        peer.send(b"wait\n")
        await Deferred(cancelled.append)

    cancelled = []
    passage = Passage(runs(greets_and_asks), opened=False)
    passage.wire.on_write = lambda data: passage.gate.write_stalled()
    passage.gate.open()
    passage.lose()

    assert len(cancelled) == 1
    assert passage.endings == [("limit", "handshake")]
    assert passage.left_behind == []
    cancelled.clear()
    assert logged.take() == []


# Whatever happens


async def story(peer, deferreds):
    """A handshake that does what the peer says, a letter at a time."""
    while True:
        letter = await peer.receive_exactly(1)
        if letter == b"a":
            return Accept(b"OK\n", identity="ann")
        if letter == b"r":
            return Reject(b"NO\n")
        if letter == b"s":
            peer.send(b"s" * 30000)
        if letter == b"d":
            made = Deferred()
            deferreds.append(made)
            with suppress(ZeroDivisionError):
                await made
        if letter == b"c":
            raise ZeroDivisionError("oops")


LETTERS = st.text("arsdcx", min_size=1, max_size=3).map(str.encode)

STEPS = st.one_of(
    st.tuples(st.just("data"), LETTERS),
    st.tuples(st.just("time"), st.sampled_from([0.1, 1.0, 4.0, 7.0])),
    st.tuples(
        st.sampled_from(["eof", "lost", "reset", "shut_down", "stalled", "tls", "fire", "fail"]),
        st.none(),
    ),
)


@settings(max_examples=400, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=14),
    session=st.sampled_from(["none", "one", "declines", "breaks"]),
    admission=st.sampled_from(["none", "ticket", "refuses", "breaks"]),
    tls=st.booleans(),
    prompt=st.sampled_from([b"", b"a", b"r", b"d", b"lost"]),
    shutting=st.sampled_from([None, ConnectionOpened, HandshakeEnded]),
)
def test_whatever_happens_a_connection_ends_once(steps, session, admission, tls, prompt, shutting):
    deferreds = []
    sessions = Sessions()
    tickets = Tickets("no" if admission == "refuses" else None)
    if admission == "breaks":
        tickets.admit = {}.__getitem__

    def build(factory):
        assert not lost
        if session == "breaks":
            raise ZeroDivisionError("oops")
        return None if session == "declines" else factory.buildProtocol(None)

    def answer(data):
        if prompt == b"lost":
            lose(ConnectionDone())
        elif prompt:
            passage.gate.data_received(prompt)

    def observe(event):
        if isinstance(event, shutting or ()):
            passage.terms.shut_down()

    def lose(why):
        if not lost:
            lost.append(why)
            lease = passage.wire.lease
            if lease is None:
                passage.gate.wire_lost(Failure(why))
            else:
                lease.connection_lost(Failure(why))

    lost = []
    passage = Passage(
        runs(lambda peer: story(peer, deferreds)),
        None if session == "none" else sessions,
        admission=None if admission == "none" else tickets,
        opened=False,
        observers=[observe],
    )
    passage.wire.build_session = build
    passage.wire.on_write = answer
    passage.gate.open(tls=tls)
    for step, argument in [*steps, ("lost", None), ("time", 20.0)]:
        if step == "time":
            passage.clock.advance(argument)
        elif step == "shut_down":
            passage.terms.shut_down()
        elif step in ("fire", "fail"):
            for each in [each for each in deferreds if not each.called]:
                each.callback(None) if step == "fire" else each.errback(ZeroDivisionError())
        elif step in ("lost", "reset"):
            lose(ConnectionDone() if step == "lost" else ConnectionLost())
        elif lost or passage.wire.lease is not None:
            continue
        elif step == "data":
            passage.gate.data_received(argument)
        elif step == "eof":
            passage.gate.eof_received()
        elif step == "stalled":
            passage.gate.write_stalled()
        else:
            passage.gate.tls_established(TlsFacts())

    kinds = [type(each) for each in passage.events]
    assert kinds == [ConnectionOpened, HandshakeEnded, ConnectionEnded]
    _, verdict, end = passage.events
    assert len(passage.wire.verdicts) == 1
    if end.ending.phase in ("session", "closing"):
        assert verdict.reason in ("accepted", "rejected", "probe")
    else:
        assert end.ending == Ending(verdict.reason, verdict.phase)
    if passage.wire.lease is not None:
        assert verdict.reason == "accepted"
        assert isinstance(passage.wire.handed[0], Accept)
        assert end.ending.phase == "session"
    assert tickets.released == (admission == "ticket")
    assert [each for each in passage.told if each in ("pause", "resume")][1::2].count("pause") == 0
    assert passage.told.count("leave") + passage.told.count("hand over") <= 1
    assert passage.left_behind == []
    assert all(each.called for each in deferreds)


def test_a_deferred_that_was_cancelled_says_nothing(logged):
    async def asks(peer):
        await Deferred()

    passage = Passage(runs(asks))
    passage.gate.shut_down()
    passage.lose()
    gc.collect()

    assert passage.left_behind == []
    assert logged.take() == []
