"""
Whatever happens to several connections at one entrance, each begins once, ends once and pays once.

Both kinds of wire have a stand-in: Twisted's transport, which is told to go and goes later, and the
bare socket, which is gone before the call returns. The admission is the real one.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from sockproto import AdmissionControl, Limits, Policy
from sockproto.admission.early_drop import EarlyDrop
from sockproto.core.facts import TlsFacts
from sockproto.events import ConnectionEnded, ConnectionOpened, HandshakeEnded
from sockproto.transport.gate import Gate

from .kit import Recorder, Server, Sessions, runs
from .test_gate import FACTS, Wire, story

HOW = st.sampled_from(["plain", "plain", "plain", "tls", "wait for TLS", "broken"])
SAID = st.sampled_from(["", "a", "a", "da", "sa", "r", "d", "dd", "s", "sss", "c", "x", "ax"]).map(
    str.encode
)
"""What a peer says: see :func:`story`."""

SETTLED = ("accepted", "rejected", "probe", "refused", "shutdown")
"""What may have been said of a connection that is over in a later phase."""


class Paid:
    """A ticket, and how often it has been told what."""

    def __init__(self, ticket):
        self.ticket = ticket
        self.patience, self.waived = ticket.patience, ticket.waived
        self.told = []

    def settled(self, reason, **facts):
        self.told.append("settled")
        self.ticket.settled(reason, **facts)

    def release(self):
        self.told.append("released")
        self.ticket.release()


class Till:
    """An admission that keeps its tickets. It may break."""

    def __init__(self, control):
        self.control = control
        self.tickets = []
        self.broken = False

    def admit(self, address, **facts):
        if self.broken:
            raise ZeroDivisionError("oops")
        answer = self.control.admit(address, **facts)
        if isinstance(answer, str):
            return answer
        self.tickets.append(Paid(answer))
        return self.tickets[-1]


class Session(Recorder):
    """It may begin after an ``Accept`` only, and may close or break at once."""

    def connectionMade(self):
        super().connectionMade()
        if self.factory.mood == "closes":
            self.transport.loseConnection()
        if self.factory.mood == "raises":
            raise ZeroDivisionError("oops")


class Choosy(Sessions):
    """Sessions that are built, declined or broken, as the machine says."""

    mood = "fine"

    def buildProtocol(self, addr):
        if self.mood == "breaks":
            raise ZeroDivisionError("oops")
        return None if self.mood == "declines" else super().buildProtocol(addr)


class OnTransport:
    """A connection on a transport in memory: what is told to go goes when the reactor turns."""

    tls = False

    def __init__(self, server, tls):
        self.connection = server.connect()

    @property
    def hears(self):
        return not (self.gone or self.connection.transport.disconnecting)

    gone = False

    def data(self, data):
        self.connection.send(data)

    def eof(self):
        self.connection.send_eof()

    def stall(self):
        producer = self.connection.transport.producer
        if producer is not None:
            producer.pauseProducing()

    def establish_tls(self):
        """Over a transport there is TLS of its own, elsewhere."""

    def lose(self, why):
        if not self.gone:
            self.gone = True
            self.connection.lose(why)

    def turn(self):
        transport = self.connection.transport
        if transport.disconnecting:
            self.lose(ConnectionAborted() if transport.aborted else ConnectionDone())


class BareWire(Wire):
    """A wire whose socket is closed by the time that it has been told to."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def close(self):
        self.way.lose(ConnectionDone())

    def abort(self):
        self.way.lose(ConnectionAborted())

    def build_session(self, factory):
        return factory.buildProtocol(None)

    def hand_over(self, gate, session, accept, early, *, ended):
        self.lease = gate.lease(self, session)
        session.told.append(accept)
        self.concluded(accept, session)

    leave = loseConnection = close
    abortConnection = abort


class OnBareSocket:
    """A connection on a bare socket: what is told to go is gone."""

    def __init__(self, server, tls):
        self.gone = False
        self.wire = BareWire(self)
        self.gate = Gate(server.factory.terms, self.wire, FACTS)
        self.gate.open(tls=tls)

    @property
    def hears(self):
        return not self.gone and self.wire.lease is None

    def data(self, data):
        self.gate.data_received(data)

    def eof(self):
        self.gate.eof_received()

    def stall(self):
        self.gate.write_stalled()

    def establish_tls(self):
        self.gate.tls_established(TlsFacts())

    def lose(self, why):
        if self.gone:
            return
        self.gone = True
        lease = self.wire.lease
        if lease is None:
            self.gate.wire_lost(Failure(why))
        else:
            lease.connection_lost(Failure(why))

    def turn(self):
        """Nothing is late."""


class Door(RuleBasedStateMachine):
    """An entrance, and several connections at once."""

    way = OnTransport

    @initialize(
        session=st.booleans(), most=st.integers(1, 4), goodbye=st.sampled_from([b"", b"full\n"])
    )
    def open(self, session, most, goodbye):
        self.deferreds = []
        self.sessions = Choosy(Session)
        self.till = Till(None)
        self.server = Server(
            runs(lambda peer: story(peer, self.deferreds)),
            self.sessions if session else None,
            admission=self.till,
            limits=Limits(session_idle_timeout=30.0),
        )
        self.control = self.till.control = AdmissionControl(
            Policy(
                max_connections=most,
                max_pending=EarlyDrop.parse("3"),
                penalties=None,
                goodbye=goodbye,
            ),
            seconds=self.server.clock.seconds,
        )
        self.factory = self.server.factory
        self.ways = []

    @precondition(lambda self: len(self.ways) < 8)
    @rule(how=HOW, said=SAID)
    def come(self, how, said):
        self.till.broken = how == "broken"
        self.ways.append(self.way(self.server, "tls" in how.lower()))
        if how == "tls" and self.ways[-1].hears:
            self.ways[-1].establish_tls()
        if said and self.ways[-1].hears:
            self.ways[-1].data(said)

    def some(self, data):
        hearing = [each for each in self.ways if each.hears]
        return data.draw(st.sampled_from(hearing)) if hearing else None

    @rule(data=st.data(), said=SAID)
    def hear(self, data, said):
        way = self.some(data)
        if said and way is not None:
            way.data(said)

    @rule(data=st.data(), what=st.sampled_from(["eof", "stall", "establish_tls"]))
    def happen(self, data, what):
        way = self.some(data)
        if way is not None:
            getattr(way, what)()

    @rule(data=st.data(), why=st.sampled_from([ConnectionDone, ConnectionLost]))
    def lose(self, data, why):
        if self.ways:
            data.draw(st.sampled_from(self.ways)).lose(why())

    @rule()
    def turn(self):
        for way in self.ways:
            way.turn()

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 4.9, 6.0, 11.0, 40.0]))
    def pass_time(self, seconds):
        self.server.clock.advance(seconds)

    @rule(fails=st.booleans())
    def fire(self, fails):
        # Also those whose connection has long gone.
        for each in [each for each in self.deferreds if not each.called]:
            each.errback(ZeroDivisionError()) if fails else each.callback(None)

    @rule(mood=st.sampled_from(["fine", "fine", "breaks", "declines", "closes", "raises"]))
    def change_the_mood_of_the_sessions(self, mood):
        self.sessions.mood = mood

    @rule(really=st.sampled_from([False, False, False, True]))
    def shut_down(self, really):
        if really:
            self.factory.shut_down()

    @invariant()
    def each_begins_and_ends_once_and_in_order(self):
        for number, events in self.stories.items():
            kinds = [type(each) for each in events]
            whole = [ConnectionOpened, HandshakeEnded, ConnectionEnded]
            assert kinds == whole[: len(kinds)], number
            if len(kinds) == 3:
                verdict, end = events[1], events[2].ending
                if end.phase in ("closing", "session"):
                    assert verdict.reason in SETTLED
                else:
                    assert (end.reason, end.phase) == (verdict.reason, verdict.phase)

    @invariant()
    def no_session_begins_before_its_accept(self):
        accepted = sum(
            type(each) is HandshakeEnded and each.reason == "accepted"
            for each in self.server.events
        )
        assert sum(bool(each.told) for each in self.sessions.built) <= accepted

    @invariant()
    def the_slots_that_are_taken_are_those_of_the_live(self):
        kept = [each for each in self.till.tickets if "released" not in each.told]
        assert self.control.counts.connections == len(kept)
        assert all(each.told in ([], ["settled"]) for each in kept)

    @property
    def stories(self):
        stories = {}
        for event in self.server.events:
            stories.setdefault(event.number, []).append(event)
        return stories

    def teardown(self):
        for way in self.ways:
            way.lose(ConnectionDone())
        self.server.clock.advance(60.0)
        assert {len(each) for each in self.stories.values()} <= {3}
        assert len(self.stories) == len(self.ways)
        assert all(each.told == ["settled", "released"] for each in self.till.tickets)
        assert self.control.counts.connections == 0
        assert self.server.left_behind == []
        # Those that nobody waits for any more have been cancelled.
        assert all(each.called for each in self.deferreds)


class BareDoor(Door):
    """The same, on bare sockets."""

    way = OnBareSocket


DOORS = pytest.mark.parametrize("door", [Door, BareDoor])


@DOORS
def test_every_connection_begins_and_ends_once_whatever_happens(door, logged_failures):
    run(door, settings=settings(max_examples=60, stateful_step_count=30, deadline=None))
    # What sessions raise in connectionMade().
    logged_failures.take(ZeroDivisionError)


@pytest.mark.slow
@DOORS
def test_no_long_story_breaks_it(door, logged_failures):
    run(door, settings=settings(max_examples=1000, stateful_step_count=50, deadline=None))
    logged_failures.take(ZeroDivisionError)
