"""Behind the real gate: clocks, admission, hand-over, endings, on a transport in memory."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from typing import Any

from sockproto.core.facts import Address
from sockproto.core.outcomes import Accept
from sockproto.core.peer import Peer
from sockproto.limits import Limits
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.guarded import (
    Guarded,
    Sessions,
    Tickets,
    converse_behind_gate,
)
from sockproto.testing.conformance.networks import END, Appended, Interrupted, Network
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import CLIENT, DEFERRED, SERVER, Actor, meet
from sockproto.testing.conformance.subject import Subject, dice, mutation

LIMITS = Limits(idle_timeout=5.0, handshake_timeout=10.0, close_timeout=5.0)

AT_MOST = 1.1 * LIMITS.handshake_timeout + LIMITS.close_timeout + 1.0
"""Seconds after which anybody is gone: both clocks, with the jitter, and a bucket of deadlines."""


def _without_tls(subject: Subject) -> list[str]:
    names = [name for name, part in subject.parts.items() if not part.upgrades]
    if not names:
        raise NotApplicable("it asks for TLS, which there is none of in memory")
    return names


def _open_steps(subject: Subject) -> Iterator[tuple[str, int]]:
    parts = getattr(subject.learned, "parts", {})
    for name, step in subject.steps():
        if name not in parts or not parts[name].upgrades:
            yield name, step


@check("gate")
def the_same_behind_the_gate(subject: Subject) -> Iterator[Case]:
    """Behind the gate it says the same bytes, and is accepted."""

    def look(name: str) -> None:
        guarded = converse_behind_gate(subject, name)
        if guarded.reason != "accepted":
            raise Fault(f"{subject.title(name)} ends as {guarded.reason}", guarded.heard)
        said = guarded.connection.received
        part = subject.parts[name]
        if subject.conversation.steady and said != part.said:
            raise Fault(f"{subject.title(name)} says {said[:64]!r} there", guarded.heard)
        guarded.finish(subject.title(name))

    for name in _without_tls(subject):
        yield partial(look, name)


@check("gate")
def the_session_gets_what_follows(subject: Subject) -> Iterator[Case]:
    """The session begins after the verdict, and gets what follows, in order and once."""

    def look(name: str, more: bytes) -> None:
        part = subject.parts[name]
        sessions = Sessions()
        network = Appended(len(part.heard) - 1, more) if part.heard else Network()
        guarded = Guarded(subject, name, sessions)
        meet(guarded, _Staying(subject.cast.partner_of(name)), network, leave=False)
        if len(sessions.built) != 1:
            raise Fault(f"{subject.title(name)}: no session has begun", guarded.heard)
        [session] = sessions.built
        guarded.hear(b"later")
        expected = part.unread + (more if part.heard else b"") + b"later"
        if session.heard != expected:
            raise Fault(
                f"{subject.title(name)}: the session gets {session.heard[:64]!r}, "
                f"instead of {expected[:64]!r}",
                guarded.heard,
            )
        guarded.connection.lose()

    for name in _without_tls(subject):
        part = subject.parts[name]
        if part.needs_end:
            continue
        following = (b"",) if "receive_some" in part.verbs else (b"", b"x", b"hello\n" * 100)
        for more in following:
            yield partial(look, name, more)


@check("gate")
def no_session_without_a_yes(subject: Subject) -> Iterator[Case]:
    """A session begins after an ``Accept`` and after nothing else."""

    def look(name: str, seed: int) -> None:
        verdicts: list[object] = []
        side = subject.cast.sides[name]

        async def noted(peer: Peer) -> Any:
            verdict = await side(peer)
            verdicts.append(verdict)
            return verdict

        sessions = Sessions()
        part = subject.parts[name]
        network = mutation(dice("no-session-without-a-yes", seed), len(part.stream))
        guarded = converse_behind_gate(subject, name, network, sessions, side=noted)
        accepted = bool(verdicts) and isinstance(verdicts[0], Accept)
        if sessions.built and not accepted:
            raise Fault(f"{subject.title(name)}: a session has begun", guarded.heard)
        guarded.connection.lose()

    for name, seed in subject.seeded():
        if name in _without_tls(subject) and seed < max(4, subject.cases // 4):
            yield partial(look, name, seed)


@check("gate")
def silence_at_each_step(subject: Subject) -> Iterator[Case]:
    """A peer that falls silent is gone when the idle timeout has passed."""

    def look(name: str, step: int) -> None:
        guarded = converse_behind_gate(subject, name, Interrupted(step), limits=LIMITS)
        guarded.pass_time(AT_MOST)
        if not guarded.connection.lost:
            raise Fault(f"{subject.title(name)} keeps a silent peer", guarded.heard)
        guarded.finish(subject.title(name))

    for name, step in _open_steps(subject):
        yield partial(look, name, step)


@check("gate")
def dripping_peer(subject: Subject) -> Iterator[Case]:
    """A peer that says a byte now and then is gone when the handshake timeout has passed."""

    def look(name: str, filling: bytes) -> None:
        guarded = Guarded(subject, name, limits=LIMITS)
        for _ in range(round(AT_MOST / 4) + 1):
            guarded.hear(filling)
            guarded.pass_time(4.0)
        if not guarded.connection.lost:
            raise Fault(f"{subject.title(name)} keeps a peer that drips", guarded.heard)
        guarded.finish(subject.title(name))

    for name in subject.sides:
        for filling in (b"x", b"\0", b"1"):
            yield partial(look, name, filling)


@check("gate")
def a_good_peer_that_drips(subject: Subject) -> Iterator[Case]:
    """A good peer that is slow, and still in time, is accepted."""

    class Slow(Network):
        def __init__(self, guarded: Guarded, size: int) -> None:
            self._guarded, self._pause = guarded, min(4.0, 8.0 / max(1, size))
            self._pauses = size

        def carry(self, message: bytes) -> Iterator[bytes | None]:
            for at in range(len(message)):
                # A conversation may be a little longer than the one that was learned.
                if self._pauses:
                    self._pauses -= 1
                    self._guarded.pass_time(self._pause, self._pause)
                yield message[at : at + 1]

    def look(name: str) -> None:
        part = subject.parts[name]
        guarded = Guarded(subject, name, limits=LIMITS)
        meet(guarded, subject.cast.partner_of(name), Slow(guarded, len(part.stream)), leave=False)
        if guarded.reason != "accepted":
            raise Fault(f"{subject.title(name)} ends as {guarded.reason}", guarded.heard)
        guarded.connection.lose()

    for name in _without_tls(subject):
        part = subject.parts[name]
        if "receive_some" not in part.verbs and DEFERRED not in part.waits:
            yield partial(look, name)


@check("gate")
def a_peer_that_does_not_go(subject: Subject) -> Iterator[Case]:
    """A peer that stays after the verdict is gone when the close timeout has passed."""

    def look(name: str, network: Network) -> None:
        guarded = Guarded(subject, name, limits=LIMITS)
        meet(guarded, _Staying(subject.cast.partner_of(name)), network, leave=False)
        guarded.pass_time(AT_MOST)
        if not guarded.connection.lost:
            raise Fault(f"{subject.title(name)} keeps a peer that does not go", guarded.heard)
        guarded.finish(subject.title(name))

    for name in _without_tls(subject):
        yield partial(look, name, Network())
        yield partial(look, name, Interrupted(0, b"no\n" * 100))


class _Staying:
    """A peer that does not hang up."""

    over = False

    def __init__(self, actor: Actor) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._actor, name)

    def hear(self, data: bytes) -> None:
        self._actor.hear(data)

    def take(self) -> bytes:
        return self._actor.take()

    heard: list[bytes]

    def hear_end(self) -> None:
        self._actor.hear_end()

    @property
    def ended(self) -> bool:
        return self._actor.ended

    wants_tls = False

    def start_tls(self) -> None:
        self._actor.start_tls()


@check("gate")
def stopped_behind_the_gate(subject: Subject) -> Iterator[Case]:
    """A server that stops is rid of it within the close timeout, at any step."""

    def look(name: str, step: int) -> None:
        guarded = converse_behind_gate(subject, name, Interrupted(step), limits=LIMITS)
        guarded.terms.shut_down()
        guarded.connection.settle()
        guarded.pass_time(LIMITS.close_timeout + 1.0)
        if not guarded.connection.lost:
            raise Fault(f"{subject.title(name)} does not let the server stop", guarded.heard)
        guarded.finish(subject.title(name))

    for name, step in _open_steps(subject):
        yield partial(look, name, step)


@check("gate")
def lost_behind_the_gate(subject: Subject) -> Iterator[Case]:
    """A connection that is lost, at any step, ends once, and a slot is given back once."""

    def look(name: str, step: int) -> None:
        tickets = Tickets()
        guarded = converse_behind_gate(
            subject, name, Interrupted(step), limits=LIMITS, admission=tickets
        )
        guarded.connection.lose()
        guarded.finish(subject.title(name))
        if (len(tickets.settled_as), tickets.released) != (1, 1):
            raise Fault(f"{subject.title(name)}: its slot is not given back once", guarded.heard)

    for name, step in _open_steps(subject):
        yield partial(look, name, step)


@check("gate")
def ends_once(subject: Subject) -> Iterator[Case]:
    """Whatever a peer says, there is one verdict and one ending, and neither is ``crashed``."""

    def look(name: str, seed: int) -> None:
        part = subject.parts[name]
        network = mutation(dice("ends-once", seed), len(part.stream))
        guarded = converse_behind_gate(subject, name, network, limits=LIMITS)
        guarded.finish(subject.title(name))
        if guarded.reason == "crashed":
            raise Fault(f"{subject.title(name)}: {guarded.verdicts[0].detail}", guarded.heard)

    for name, seed in subject.seeded():
        if name in _without_tls(subject) and seed < max(4, subject.cases // 4):
            yield partial(look, name, seed)


@check("gate")
def who_is_refused_does_not_begin(subject: Subject) -> Iterator[Case]:
    """A peer for whom there is no room meets nothing of it."""

    def look(name: str) -> None:
        begun: list[Peer] = []
        side = subject.cast.sides[name]

        async def noted(peer: Peer) -> Any:
            begun.append(peer)
            return await side(peer)

        guarded = Guarded(subject, name, admission=Tickets("no room"), side=noted)
        guarded.hear(b"hello\n")
        if begun or guarded.connection.received or guarded.reason != "refused":
            raise Fault(f"{subject.title(name)} begins with a peer that is refused")
        guarded.finish(subject.title(name))

    for name in subject.sides:
        yield partial(look, name)


@check("gate")
def under_pressure(subject: Subject) -> Iterator[Case]:
    """When there is no room to spare, a silent peer is gone sooner."""

    def look(name: str) -> None:
        guarded = Guarded(subject, name, limits=LIMITS, admission=Tickets(patience=0.2))
        # A tenth of jitter, a bucket of deadlines, and the goodbye.
        guarded.pass_time(0.2 * 1.1 * LIMITS.handshake_timeout + 0.5)
        if not guarded.verdicts:
            raise Fault(f"{subject.title(name)} keeps a silent peer under pressure")
        guarded.connection.lose()

    for name, step in _open_steps(subject):
        if step == 0:
            yield partial(look, name)


@check("gate")
def a_full_write_buffer(subject: Subject) -> Iterator[Case]:
    """A peer that reads nothing is gone by the bound of its clocks."""

    def look(name: str, step: int) -> None:
        guarded = Guarded(subject, name, limits=LIMITS)
        # It hears what it should, and takes nothing.
        guarded.connection.transport.unread = guarded.connection.transport.BUFFER
        meet(guarded, subject.cast.partner_of(name), Interrupted(step), leave=False)
        guarded.pass_time(AT_MOST)
        if not guarded.connection.lost:
            raise Fault(f"{subject.title(name)} keeps a peer that reads nothing", guarded.heard)
        guarded.finish(subject.title(name))

    for name, step in _open_steps(subject):
        yield partial(look, name, step)


@check("gate")
def an_abrupt_peer(subject: Subject) -> Iterator[Case]:
    """A peer that half-closes at any step is answered, or let go, within the bounds."""

    def look(name: str, step: int) -> None:
        guarded = converse_behind_gate(subject, name, Interrupted(step, END), limits=LIMITS)
        guarded.pass_time(LIMITS.close_timeout + 1.0)
        waits = guarded.gate is not None and not guarded.verdicts
        if waits and not _awaits_deferred(subject, name):
            raise Fault(f"{subject.title(name)} waits for a peer that has finished", guarded.heard)
        guarded.connection.lose()

    for name, step in _open_steps(subject):
        yield partial(look, name, step)


def _awaits_deferred(subject: Subject, name: str) -> bool:
    parts = getattr(subject.learned, "parts", {})
    return name in parts and DEFERRED in parts[name].waits


@check("gate")
def the_same_on_both_wires(subject: Subject) -> Iterator[Case]:
    """On a bare socket, the fast path, it says the same as on a transport."""
    if SERVER not in subject.sides or subject.parts[SERVER].upgrades:
        raise NotApplicable("only a server without TLS runs on a bare socket")
    if not subject.conversation.steady:
        raise NotApplicable("no two runs say the same, so there is nothing to compare")
    if DEFERRED in subject.parts[SERVER].waits:
        raise NotApplicable("it awaits a Deferred, for which no time passes there")

    def look() -> None:
        part = subject.parts[SERVER]
        portable = Guarded(subject, SERVER)
        for message in part.heard:
            portable.hear(message)
        bare = _on_a_bare_socket(subject, portable, part.heard)
        if bare != portable.connection.received:
            raise Fault(f"on a bare socket it says {bare[:64]!r}", part.heard)
        portable.connection.lose()

    yield look


def _on_a_bare_socket(subject: Subject, like: Guarded, heard: tuple[bytes, ...]) -> bytes:
    from sockproto.transport.bare import SocketWire
    from sockproto.transport.gate import Gate

    terms: Any = Guarded(subject, SERVER).terms
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    wire: Any = SocketWire(_Host(), ours, ours.fileno(), "")
    wire.gate = gate = Gate(terms, wire, like.gate.facts)
    received = b""
    try:
        gate.open()
        for message in heard:
            theirs.sendall(message)
            if wire.bare is not None:
                wire.readable()
        theirs.shutdown(socket.SHUT_WR)
        while wire.bare is not None:
            before = wire.bare
            wire.readable()
            if wire.bare is before and wire.interest == 0:
                break
        while data := _received(theirs):
            received += data
    finally:
        theirs.close()
        if wire.bare is not None:
            wire.abort()
    return received


def _received(where: socket.socket) -> bytes:
    try:
        return where.recv(65536)
    except OSError:
        return b""


class _Host:
    """What a wire on a bare socket asks of its listener; nothing here ever becomes a transport."""

    sessions: tuple[str, ...] = ()

    def local_of(self, bare: object) -> Address:
        return Address("unix")

    def watch(self, fileno: int, events: int) -> None:
        pass

    def forget(self, fileno: int) -> None:
        pass

    def adopt(self, fileno: int, bare: Any, gate: object, early: object) -> None:
        bare.close()


@check("gate")
def a_client_tells_its_caller(subject: Subject) -> Iterator[Case]:
    """What its client brings back reaches whoever has connected, and so does a failure."""
    if CLIENT not in subject.sides:
        raise NotApplicable("it has no connect")
    if CLIENT not in _without_tls(subject):
        raise NotApplicable("its client asks for TLS, which there is none of in memory")
    from twisted.internet.task import Clock

    from sockproto.testing.memory import MemoryConnection
    from sockproto.transport.client import ClientFactory

    def look(step: int | None) -> None:
        side = subject.cast.sides[CLIENT]

        class Connecting:
            connect = staticmethod(side)

        clock: Any = subject.cast.clock or Clock()
        factory = ClientFactory(Connecting(), clock=clock)
        protocol = factory.buildProtocol(None)
        told: list[object] = []
        protocol.finished.addBoth(told.append)
        connection = MemoryConnection(protocol)
        part = subject.parts[CLIENT]
        for message in part.heard if step is None else part.heard[:step]:
            connection.send(message)
        connection.send_eof()
        connection.settle()
        connection.lose()
        if len(told) != 1:
            raise Fault(f"its client tells its caller {len(told)} times how it went")

    for step in (*range(len(subject.parts[CLIENT].heard)), None):
        yield partial(look, step)
