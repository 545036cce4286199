import errno
import os
import resource
import socket
import ssl
from contextlib import contextmanager
from select import epoll

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IReadDescriptor,
)
from zope.interface import implementer
from zope.interface.verify import verifyObject

from sockproto import Accept, AdmissionControl, Limits, Policy
from sockproto.admission.early_drop import EarlyDrop
from sockproto.core.facts import Address
from sockproto.events import AcceptingPaused, CapReached, ConnectionOpened, HandshakeEnded
from sockproto.transport import listener
from sockproto.transport.listener import LONGEST_REST, MAX_ACCEPTS, MAX_TURNS, QUIET, Listener
from sockproto.transport.sockets import Door, inherited, tcp, unix
from sockproto.transport.tls import ServerTls

from .crank import Opened, Visitor, cranked
from .kit import HalfClosing, Recorder, Sessions, Tickets, Word, certificate, runs

OK = Accept(b"OK\n", identity="ann")


class Leaving(HalfClosing):
    """A session that goes when its peer has finished."""

    def readConnectionLost(self):
        self.transport.loseConnection()


@pytest.fixture
def crank():
    with cranked() as crank:
        yield crank


def opened(door):
    return sum(isinstance(each, ConnectionOpened) for each in door.server.events)


def pauses(door):
    return [each for each in door.server.events if isinstance(each, AcceptingPaused)]


def next_descriptor():
    """The number that the next one gets, which is the lowest that is free (open(2))."""
    number = os.dup(0)
    os.close(number)
    return number


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def left_open(warned):
    """The sockets that nobody has closed, and the garbage collection had to."""
    return [each for each in warned.list if each.category is ResourceWarning]


@contextmanager
def no_room(spare=0):
    """A system that gives us no more descriptors than so many."""
    free = []
    while len(free) <= spare:
        free.append(os.dup(0))
    for each in free:
        os.close(each)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[spare], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# As a port


def test_it_is_a_port_and_a_reader_of_twisteds(crank):
    door = Opened(crank)

    assert verifyObject(IListeningPort, door.port)
    assert verifyObject(IReadDescriptor, door.port)
    assert door.port.getHost() == IPv4Address("TCP", *door.place)
    assert door.port.address == Address("inet", *door.place)
    assert door.port.logPrefix() == f"sockproto at 127.0.0.1:{door.place[1]}"

    door.stop()


def test_who_waits_costs_no_transport(crank):
    door = Opened(crank)
    before = open_descriptors()
    visitors = [door.visit() for _ in range(10)]
    crank.until(lambda: opened(door) == 10)

    assert crank.watched[:-1] == [door.port]
    assert open_descriptors() - before == 20
    for each in visitors:
        each.send(b"yes\n")
    assert {each.receive_all() for each in visitors} == {(b"OK\n", "eof")}

    door.stop()


def test_a_turn_accepts_so_many_and_no_more(crank):
    door = Opened(crank)
    visitors = [door.visit() for _ in range(2 * MAX_ACCEPTS + 1)]

    counts = []
    for _ in range(3):
        crank.turn()
        counts.append(opened(door))

    assert counts == [MAX_ACCEPTS, 2 * MAX_ACCEPTS, 2 * MAX_ACCEPTS + 1]
    for each in visitors:
        each.close()
    door.stop()


def test_a_turn_looks_after_so_many_and_then_others_have_theirs(crank):
    door = Opened(crank)
    visitors = [door.visit() for _ in range(MAX_TURNS + 10)]
    crank.until(lambda: opened(door) == len(visitors))
    for each in visitors:
        each.socket.sendall(b"yes\n")

    counts = []
    for _ in range(2):
        crank.turn()
        counts.append(len(door.server.verdicts))

    assert counts == [MAX_TURNS, MAX_TURNS + 10]
    for each in visitors:
        each.close()
    door.stop()


def test_nobody_is_told_of_what_nobody_observes(crank):
    door = Opened(crank, observed=False)
    visitor = door.visit()
    visitor.send(b"no\n")
    visitor.send_eof()

    assert visitor.receive_all() == (b"NO\n", "eof")
    assert door.server.events == []
    door.stop()


def test_the_sessions_on_offer_are_known_to_the_peer(crank):
    async def serve(peer):
        return Accept(",".join(peer.sessions).encode(), session="chat")

    door = Opened(crank, runs(serve), {"chat": Sessions(), "echo": Sessions()})

    assert door.visit().receive(9) == b"chat,echo"
    door.stop()


# To pause


def test_who_comes_to_a_paused_port_waits_in_the_queue_of_the_kernel(crank):
    door = Opened(crank)
    door.port.pause()
    visitor = door.visit()
    visitor.send(b"yes\n")
    assert visitor.silence
    assert opened(door) == 0

    door.port.resume()

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_to_pause_or_to_resume_twice_is_to_do_it_once(crank):
    door = Opened(crank)
    door.port.resume()
    door.port.pause()
    door.port.pause()
    visitor = door.visit()
    assert visitor.silence

    door.port.resume()
    door.port.resume()

    visitor.send(b"yes\n")
    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_a_port_that_was_paused_before_it_began_begins_paused(crank):
    door = Opened(crank)
    door.stop()
    again = tcp(0, "127.0.0.1", backlog=5)
    port = Listener(crank, again, door.server.factory)
    port.pause()
    port.startListening()
    visitor = Visitor(crank, again.socket.getsockname())
    visitor.send(b"yes\n")
    assert visitor.silence

    port.resume()

    assert visitor.receive_all() == (b"OK\n", "eof")
    port.stopListening()


def test_those_who_are_in_go_on_while_it_is_paused(crank):
    door = Opened(crank)
    visitor = door.visit()
    visitor.send(b"ye")
    door.port.pause()
    visitor.send(b"s\n")

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_a_port_that_is_paused_in_the_middle_of_a_turn_accepts_nobody_more(crank):
    def pause(event):
        if isinstance(event, HandshakeEnded):
            door.port.pause()

    door = Opened(crank, observers=[pause])
    first = door.visit()
    first.send(b"ye")
    first.socket.sendall(b"s\n")
    second = door.visit()
    crank.turn()

    assert first.receive_all() == (b"OK\n", "eof")
    assert second.silence
    assert opened(door) == 1
    second.close()
    door.stop()


# The cap on connections


def capped(crank, most, **terms):
    """A door that lets so many in, and waits for one to go."""
    control = AdmissionControl(Policy(max_connections=most), seconds=crank.seconds)
    return Opened(crank, admission=control, **terms), control


def caps(door):
    return [each for each in door.server.events if isinstance(each, CapReached)]


def test_at_the_cap_newcomers_wait_in_the_queue_and_come_in_as_others_go(crank):
    door, control = capped(crank, 2)
    first, second, third, fourth = visitors = [door.visit() for _ in range(4)]
    for each in visitors:
        each.send(b"ye")
    assert opened(door) == control.counts.connections == 2

    first.send(b"s\n")
    assert first.receive_all() == (b"OK\n", "eof")
    crank.until(lambda: opened(door) == 3)
    second.close()
    crank.until(lambda: opened(door) == 4)

    for each in (third, fourth):
        each.send(b"s\n")
        assert each.receive_all() == (b"OK\n", "eof")
    assert {reason for reason, *_ in door.server.verdicts} == {"accepted", "lost"}
    door.stop()
    assert control.counts.connections == 0


def test_those_who_are_in_go_on_while_others_wait_for_room(crank):
    sessions = Sessions()
    door, _ = capped(crank, 1, session=sessions)
    first, second = door.visit(), door.visit()
    first.send(b"yes\nhello")
    crank.turn(3)

    first.send(b" again")

    assert b"".join(sessions.built[0].told[2:]) == b"hello again"
    assert opened(door) == 1
    first.close()
    second.send(b"yes\n")
    assert second.receive(3) == b"OK\n"
    second.close()
    door.stop()


def test_that_newcomers_have_to_wait_is_said_at_most_once_a_minute(crank):
    door, _ = capped(crank, 1, limits=Limits(idle_timeout=1000, handshake_timeout=1000))
    visitors = [door.visit() for _ in range(4)]
    said = []
    for each in visitors[:3]:
        crank.turn(3)
        said.append(len(caps(door)))
        crank.now += QUIET / 2
        # The next one comes in, and the one behind it waits.
        each.close()

    assert said == [1, 1, 2]
    assert set(caps(door)) == {CapReached(door.port.address)}
    visitors[3].close()
    door.stop()


def test_nobody_needs_to_be_told_that_newcomers_have_to_wait(crank):
    door, control = capped(crank, 1, observed=False)
    first, second = door.visit(), door.visit()
    second.send(b"yes\n")
    assert second.silence
    first.close()

    assert second.receive_all() == (b"OK\n", "eof")
    assert control.counts.connections == 0
    door.stop()


@pytest.mark.parametrize(
    "steps",
    ["pause room resume", "pause resume room", "pause resume pause room resume", "pause room"],
)
def test_a_pause_and_the_cap_do_not_get_in_each_others_way(crank, steps):
    door, _ = capped(crank, 1)
    first, second = door.visit(), door.visit()
    crank.turn(3)
    for step in steps.split():
        assert opened(door) == 1
        if step == "room":
            first.close()
        else:
            getattr(door.port, step)()
        crank.turn(3)

    assert opened(door) == (1 if steps == "pause room" else 2)
    second.close()
    door.stop()


@pytest.mark.parametrize("then", ["pauses", "stops"])
def test_an_observer_may_act_when_newcomers_have_to_wait(crank, then):
    def act(event):
        if isinstance(event, CapReached):
            door.port.pause() if then == "pauses" else door.port.stopListening()

    door, control = capped(crank, 1, observers=[act])
    first, second = door.visit(), door.visit()
    second.send(b"yes\n")
    crank.turn(3)
    first.close()
    crank.turn(3)

    assert control.counts.connections == 0
    if then == "pauses":
        assert second.silence
        door.port.resume()
        assert second.receive_all() == (b"OK\n", "eof")
    else:
        assert second.receive_all() == (b"", "eof")
    door.stop()


def test_who_waits_for_room_when_the_port_stops_is_refused_and_not_reset(crank):
    door, control = capped(crank, 1)
    first, second = door.visit(), door.visit()
    second.send(b"yes\n")
    crank.turn(3)

    door.port.stopListening()

    assert second.receive_all() == (b"", "eof")
    refused = ("refused", "admission", "max_connections: 1 of 1 connections are taken")
    assert door.server.verdicts == [refused]
    # It is told of the room, and does nothing with it.
    first.close()
    assert control.counts.connections == 0
    assert crank.watched == []
    door.stop()


def test_at_a_stop_those_who_have_spoken_make_room_for_others(crank):
    policy = Policy(max_pending=EarlyDrop(MAX_ACCEPTS, 100, MAX_ACCEPTS))
    door = Opened(crank, admission=AdmissionControl(policy, seconds=crank.seconds))
    visitors = [door.visit() for _ in range(3 * MAX_ACCEPTS)]
    for each in visitors:
        each.socket.sendall(b"yes\n")

    door.port.stopListening()

    assert {each.receive_all() for each in visitors} == {(b"OK\n", "eof")}
    door.stop()


def test_who_waits_for_room_is_left_to_whoever_else_has_the_socket(crank):
    listening = socket.create_server(("127.0.0.1", 0))
    with socket.socket(fileno=os.dup(listening.fileno())) as other:
        listening.set_inheritable(True)
        door, _ = capped(crank, 1, door=inherited(listening.detach()))
        first, second = door.visit(), door.visit()
        crank.turn(3)

        door.port.stopListening()

        assert opened(door) == 1
        accepted, remote = other.accept()
        assert remote == second.socket.getsockname()
        for each in (first, second, accepted):
            each.close()
    door.stop()


def test_a_port_that_is_stopped_before_it_looks_for_room_does_not_wait_for_any(crank):
    def stop(event):
        if isinstance(event, HandshakeEnded):
            door.port.stopListening()

    door, control = capped(crank, 1, observers=[stop], session=Sessions())
    first = door.visit()
    first.send(b"ye")
    first.socket.sendall(b"s\n")
    second = door.visit()
    crank.turn()

    assert second.receive_all() == (b"", "eof")
    assert caps(door) == []
    first.close()
    assert control.counts.connections == 0
    door.stop()


def test_two_doors_share_the_room(crank):
    door, control = capped(crank, 1)
    other = Listener(crank, tcp(0, "127.0.0.1", backlog=5), door.server.factory)
    other.startListening()
    place = (other.address.host, other.address.port)
    visitors = [door.visit(), door.visit(), door.visit(place), door.visit(place)]
    by_port = {each.socket.getsockname()[1]: each for each in visitors}
    for count in (1, 2, 3, 4):
        crank.turn(3)
        assert (opened(door), control.counts.connections) == (count, 1)
        [inside] = door.server.live
        # Which of the doors is quicker does not matter.
        by_port.pop(inside.facts.address.port).close()

    assert (by_port, control.counts.connections) == ({}, 0)
    other.stopListening()
    door.stop()


def test_who_comes_through_a_proxy_is_counted_from_the_first_byte_on(crank):
    door, control = capped(crank, 1, proxies="127.0.0.0/8")
    first, second = door.visit(), door.visit()
    first.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 ")
    assert control.counts.connections == opened(door) == 1

    first.send(b"443\r\nye")
    assert (control.counts.connections, control.counts.pending) == (1, [1, 0])
    assert opened(door) == 1
    first.close()

    crank.until(lambda: opened(door) == 2)
    assert control.counts.connections == 1
    second.close()
    assert control.counts.connections == 0
    door.stop()


def test_who_is_refused_at_a_cap_can_be_told_why(crank):
    policy = Policy(max_connections=1, wait=False, goodbye=b"busy\n")
    door = Opened(crank, admission=AdmissionControl(policy, seconds=crank.seconds))
    first, second = door.visit(), door.visit()
    second.send(b"yes\n")

    assert second.receive(5) == b"busy\n"
    assert second.receive_all() == (b"", "eof")
    crank.until(lambda: door.server.endings == [("refused", "closing")])
    first.close()
    door.stop()


# No room for more descriptors


def test_accepting_rests_longer_and_longer_and_says_so_once(crank):
    door = Opened(crank)
    visitor = door.visit()
    rests = []
    with no_room():
        for _ in range(7):
            crank.turn()
            (call,) = crank.getDelayedCalls()
            rests.append(round(call.getTime() - crank.now, 3))
            crank.advance(rests[-1])

    assert rests == [0.05, 0.1, 0.2, 0.4, 0.8, LONGEST_REST, LONGEST_REST]
    assert [(each.local, each.error.errno) for each in pauses(door)] == [
        (door.port.address, errno.EMFILE)
    ]
    crank.advance(LONGEST_REST)
    visitor.send(b"yes\n")
    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_who_finds_room_rests_shortly_the_next_time(crank):
    door = Opened(crank)
    visitors = [door.visit()]
    with no_room():
        crank.turn()
        crank.advance(0.05)
        (call,) = crank.getDelayedCalls()
        assert call.getTime() - crank.now == pytest.approx(0.1)
    crank.advance(0.1)
    assert opened(door) == 1
    visitors.append(door.visit())
    with no_room():
        crank.turn()

        assert crank.now + 0.05 in [call.getTime() for call in crank.getDelayedCalls()]

    assert len(pauses(door)) == 1
    for each in visitors:
        each.close()
    door.stop()


def test_who_found_room_for_a_while_says_so_again_the_next_time(crank):
    door = Opened(crank)
    visitors = []
    for _ in range(2):
        visitors.append(door.visit())
        with no_room():
            crank.turn()
        crank.advance(LONGEST_REST + 0.1)

    assert opened(door) == 2
    assert len(pauses(door)) == 2
    for each in visitors:
        each.close()
    door.stop()


def test_a_rest_does_not_need_anybody_to_be_told_of_it(crank):
    door = Opened(crank, observed=False)
    visitor = door.visit()
    with no_room():
        crank.turn()
    crank.advance(0.05)
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


@pytest.mark.parametrize(
    "steps",
    [
        "pause rest-over resume",
        "pause resume rest-over",
        "pause resume pause rest-over resume",
        "pause rest-over pause resume",
    ],
)
def test_a_pause_and_a_rest_do_not_get_in_each_others_way(crank, steps):
    door = Opened(crank)
    visitor = door.visit()
    with no_room():
        crank.turn()
    for step in steps.split():
        assert opened(door) == 0
        if step == "rest-over":
            crank.advance(0.05)
        else:
            getattr(door.port, step)()
        crank.turn()

    assert opened(door) == 1
    visitor.close()
    door.stop()


def test_an_observer_may_pause_a_port_that_has_no_room(crank):
    door = Opened(
        crank, observers=[lambda event: isinstance(event, AcceptingPaused) and door.port.pause()]
    )
    visitor = door.visit()
    with no_room():
        crank.turn()
    crank.advance(1)
    assert opened(door) == 0

    door.port.resume()
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_who_is_accepted_into_a_session_needs_no_descriptor_more(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions)
    visitors = [door.visit() for _ in range(3)]
    crank.until(lambda: opened(door) == 3)
    with no_room():
        for each in visitors:
            each.send(b"yes\nhello")

    assert [each.told[1:] for each in sessions.built] == [["made", b"hello"]] * 3
    for each in visitors:
        each.close()
    door.stop()


def test_who_cannot_be_watched_as_a_session_is_let_go(crank, monkeypatch):
    sessions, tickets = Sessions(), Tickets()
    door = Opened(crank, Word(), sessions, admission=tickets)
    visitor = door.visit()
    crank.until(lambda: opened(door) == 1)

    def full(reader):
        raise OSError(errno.ENOSPC, "too many are watched")

    monkeypatch.setattr(crank, "addReader", full)
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (b"", "eof")
    assert [each.told for each in sessions.built] == [[]]
    assert door.server.endings == [("lost", "session")]
    assert tickets.released == 1
    monkeypatch.undo()
    door.stop()


def test_a_door_that_somebody_else_has_shut_is_looked_at_now_and_then(crank):
    door = Opened(crank)
    with socket.socket(fileno=os.dup(door.door.socket.fileno())) as holder:
        holder.shutdown(socket.SHUT_RDWR)
        crank.advance(5)

        assert [each.error.errno for each in pauses(door)] == [errno.EINVAL]
        assert len(crank.getDelayedCalls()) == 1
        door.stop()


class Troubled(socket.socket):
    """A listening socket that tells what has become of a connection before it tells of others."""

    trouble = ()

    def _accept(self):
        if self.trouble:
            raise self.trouble.pop()
        return super()._accept()


def test_trouble_with_one_connection_is_no_trouble_for_the_next(crank):
    listening = Troubled(socket.AF_INET)
    listening.trouble = [OSError(errno.EPERM, "firewall"), ConnectionAbortedError()]
    listening.bind(("127.0.0.1", 0))
    listening.listen(5)
    door = Opened(crank, door=Door(listening, Address("inet", *listening.getsockname())))
    visitor = door.visit()
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (b"OK\n", "eof")
    assert pauses(door) == []
    door.stop()


def test_who_cannot_be_watched_is_let_go(crank):
    def take_its_place(event):
        if isinstance(event, ConnectionOpened):
            with epoll.fromfd(os.dup(door.port.fileno())) as watched:
                watched.register(number, 0)

    door = Opened(crank, observers=[take_its_place])
    visitor = door.visit()
    number = next_descriptor()
    crank.turn()

    assert visitor.receive_all() == (b"", "reset")
    assert door.server.endings == [("probe", "handshake")]
    door.stop()


@pytest.mark.parametrize("paused", [False, True])
def test_a_socket_that_somebody_else_holds_as_well_does_not_keep_it_busy(crank, paused):
    held = []

    def hold(event):
        if isinstance(event, ConnectionOpened) and not held:
            held.append(os.dup(number))

    door = Opened(crank, observers=[hold])
    first, second = door.visit(), door.visit()
    number = next_descriptor()
    crank.turn()
    # Closed, and not gone: it is as if a child had been forked meanwhile.
    first.send(b"yes\n")
    if paused:
        door.port.pause()
    first.socket.shutdown(socket.SHUT_WR)
    crank.turn(2)
    with epoll.fromfd(os.dup(door.port.fileno())) as watched:
        assert watched.poll(0) == []

    second.send(b"yes\n")
    assert second.receive_all() == (b"OK\n", "eof")
    door.port.resume()
    third = door.visit()
    third.send(b"yes\n")
    assert third.receive_all() == (b"OK\n", "eof")
    os.close(held.pop())
    first.close()
    door.stop()


# To stop


def test_whoever_is_in_the_queue_is_let_in_and_served_before_it_stops(crank):
    door = Opened(crank)
    visitors = [door.visit() for _ in range(3 * MAX_ACCEPTS)]
    for each in visitors:
        each.socket.sendall(b"yes\n")

    door.port.stopListening()

    assert door.server.endings == [("accepted", "closing")] * len(visitors)
    assert crank.watched == []
    assert {each.receive_all() for each in visitors} == {(b"OK\n", "eof")}


def test_nobody_comes_in_when_it_has_stopped(crank):
    door = Opened(crank)
    door.port.stopListening()

    with pytest.raises(ConnectionRefusedError):
        door.visit()
    assert door.port.fileno() == -1


def test_those_who_have_not_spoken_yet_may_still(crank):
    door = Opened(crank)
    visitor = door.visit()

    door.port.stopListening()
    assert crank.watched[0] is door.port
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (b"OK\n", "eof")
    assert crank.watched == []


def test_those_who_wait_when_it_stops_are_still_timed_out(crank):
    door = Opened(crank)
    visitor = door.visit()
    door.port.stopListening()
    crank.advance(5.2)

    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("timeout", "handshake")]


def test_to_stop_twice_is_to_stop_once(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions)
    door.stop()
    door.stop()

    assert sessions.life == ["started", "stopped"]


def test_a_port_that_has_stopped_neither_pauses_nor_resumes(crank):
    door = Opened(crank)
    door.stop()
    door.port.pause()
    door.port.resume()

    assert crank.watched == []


@pytest.mark.parametrize("steps", ["pause", "rest", "rest pause", "rest pause resume"])
def test_it_stops_while_it_is_paused_and_while_it_rests(crank, steps):
    door = Opened(crank)
    visitor = door.visit()
    visitor.socket.sendall(b"yes\n")
    for step in steps.split():
        if step == "rest":
            with no_room():
                crank.turn()
        else:
            getattr(door.port, step)()

    door.port.stopListening()

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_a_door_that_others_hold_open_is_left_when_enough_have_been_let_in(crank, monkeypatch):
    monkeypatch.setattr(listener, "MAX_QUEUE", 10)
    visitors = []

    def another(event):
        if isinstance(event, ConnectionOpened):
            visitors.append(door.visit(place))

    listening = socket.create_server(("127.0.0.1", 0))
    place = listening.getsockname()
    with listening, socket.socket(fileno=os.dup(listening.fileno())):
        listening.set_inheritable(True)
        door = Opened(crank, door=inherited(listening.detach()), observers=[another])
        visitors.append(door.visit())

        door.port.stopListening()

        assert opened(door) == 10
        for each in visitors:
            each.close()
        door.stop()


def test_a_stop_that_finds_no_room_says_so(crank):
    door = Opened(crank)
    visitor = door.visit()
    with no_room():
        door.port.stopListening()

    assert len(pauses(door)) == 1
    visitor.close()
    door.stop()


def test_what_others_do_when_it_stops_may_fail(crank):
    class Fails(Sessions):
        def stopFactory(self):
            raise ValueError("on strike")

    door = Opened(crank, Word(), Fails())
    failures = []
    door.port.stopListening().addErrback(failures.append)

    assert [each.getErrorMessage() for each in failures] == ["on strike"]
    assert crank.watched == []
    door.server.factory.terms.deadlines.settle()


@pytest.mark.parametrize("when", ["before the first word", "after it", "at the first event"])
@pytest.mark.parametrize("session", [False, True])
def test_a_handshake_may_stop_the_port_that_it_comes_through(crank, when, session):
    async def serve(peer):
        if when == "before the first word":
            door.port.stopListening()
        word = await peer.receive_line(64)
        if when == "after it":
            door.port.stopListening()
        return Accept(word)

    def observe(event):
        if when == "at the first event" and isinstance(event, ConnectionOpened):
            door.port.stopListening()

    sessions = Sessions()
    door = Opened(crank, runs(serve), sessions if session else None, observers=[observe])
    visitor, other = door.visit(), door.visit()
    crank.turn()
    visitor.send(b"yes\nhello" if session else b"yes\n")

    assert visitor.receive(3) == b"yes"
    other.send(b"no\n")
    assert other.receive(2) == b"no"
    if session:
        assert [each.told[2:] for each in sessions.built] == [[b"hello"], []]
    for each in (visitor, other):
        each.close()
    door.stop()


def test_a_port_that_is_stopped_in_the_middle_of_a_turn_lets_in_who_is_in_the_queue(crank):
    def stop(event):
        if isinstance(event, HandshakeEnded):
            door.port.stopListening()

    door = Opened(crank, observers=[stop])
    first = door.visit()
    first.send(b"ye")
    first.socket.sendall(b"s\n")
    others = [door.visit() for _ in range(3)]
    crank.turn()
    assert first.receive_all() == (b"OK\n", "eof")
    for each in others:
        each.send(b"yes\n")

    assert {each.receive_all() for each in others} == {(b"OK\n", "eof")}
    assert pauses(door) == []
    assert crank.watched == []


def test_a_factory_may_stop_the_port_while_it_builds_a_session(crank):
    class Stops(Sessions):
        def buildProtocol(self, addr):
            door.port.stopListening()
            return super().buildProtocol(addr)

    sessions = Stops()
    door = Opened(crank, Word(), sessions)
    visitor = door.visit()
    visitor.send(b"yes\nhello")

    assert visitor.receive(3) == b"OK\n"
    assert [each.told[1:] for each in sessions.built] == [["made", b"hello"]]
    visitor.close()
    crank.until(lambda: not door.server.live)
    assert crank.watched == []


def test_an_admission_may_end_everybody_while_it_is_asked(crank):
    class Ends(Tickets):
        def admit(self, address, **facts):
            door.server.factory.shut_down()
            return super().admit(address)

    tickets = Ends()
    door = Opened(crank, Word(), admission=tickets)
    visitor = door.visit()

    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("shutdown", "handshake")]
    assert tickets.released == 1
    door.stop()


def test_when_the_reactor_ends_everybody_is_let_go(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions)
    waiting, talking, queued = door.visit(), door.visit(), door.visit()
    talking.send(b"yes\n")
    assert talking.receive(3) == b"OK\n"

    crank.disconnectAll()

    assert [each.receive_all()[1] for each in (waiting, queued)] == ["reset", "reset"]
    assert talking.receive_all() == (b"", "eof")
    assert sorted(door.server.endings) == [
        ("lost", "session"),
        ("probe", "handshake"),
        ("probe", "handshake"),
    ]
    assert sessions.life == ["started", "stopped"]
    assert door.server.left_behind == []


def test_nothing_changes_for_a_socket_that_is_not_looked_after(crank):
    door = Opened(crank)
    door.port.watch(door.door.socket.fileno(), 0)
    visitor = door.visit()
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


# Whose turn it is


def test_who_is_ended_by_somebody_before_it_in_the_round_is_passed_over(crank):
    def end_the_others(event):
        if isinstance(event, HandshakeEnded) and event.reason == "accepted":
            for each in list(door.server.live):
                if each.facts.address != event.address:
                    each.shut_down()

    door = Opened(crank, observers=[end_the_others])
    first, second = door.visit(), door.visit()
    crank.until(lambda: opened(door) == 2)
    first.socket.sendall(b"yes\n")
    second.socket.sendall(b"yes\n")

    assert first.receive_all() == (b"OK\n", "eof")
    assert second.receive_all() == (b"", "eof")
    assert door.server.endings == [("shutdown", "handshake"), ("accepted", "closing")]
    door.stop()


def test_whoever_gets_the_number_of_one_that_has_gone_is_not_taken_for_it(crank):
    def end_the_others(event):
        if isinstance(event, HandshakeEnded) and event.reason == "accepted":
            for each in list(door.server.live):
                if each.facts.address != event.address:
                    each.shut_down()

    door = Opened(crank, observers=[end_the_others])
    first, second = door.visit(), door.visit()
    crank.until(lambda: opened(door) == 2)
    first.socket.sendall(b"yes\n")
    third = door.visit()
    second.socket.sendall(b"yes\n")
    crank.turn()

    assert opened(door) == 3
    assert second.receive_all() == (b"", "eof")
    assert third.silence
    third.close()
    assert sorted(door.server.endings) == [
        ("accepted", "closing"),
        ("probe", "handshake"),
        ("shutdown", "handshake"),
    ]
    first.close()
    door.stop()


def test_one_that_breaks_does_not_take_the_port_with_it(crank, logged):
    async def serve(peer):
        await peer.receive_exactly(1)
        raise KeyboardInterrupt("a plug-in that means it")

    door = Opened(crank, runs(serve))
    visitor, other = door.visit(), door.visit()
    visitor.send(b"x")

    assert visitor.receive_all() == (b"", "reset")
    assert logged.take() == ["a connection broke: KeyboardInterrupt('a plug-in that means it')"]
    assert other.silence
    other.close()
    door.stop()


def test_one_that_breaks_when_it_comes_in_does_not_take_the_port_with_it(crank, logged):
    def observe(event):
        if isinstance(event, ConnectionOpened) and event.number == 1:
            raise KeyboardInterrupt("an observer that means it")

    tickets = Tickets()
    door = Opened(crank, observers=[observe], admission=tickets)
    visitor, other = door.visit(), door.visit()
    other.send(b"yes\n")

    assert visitor.receive_all() == (b"", "reset")
    assert logged.take() == ["a connection broke: KeyboardInterrupt('an observer that means it')"]
    assert other.receive_all() == (b"OK\n", "eof")
    assert tickets.released == 1
    door.stop()


# To become a transport


def test_a_session_gets_what_came_early_and_what_comes_later(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions)
    visitor = door.visit()
    visitor.send(b"yes\nhel")
    visitor.send(b"lo")
    assert visitor.receive(3) == b"OK\n"
    visitor.close()
    crank.until(lambda: door.server.endings)

    assert [each.told for each in sessions.built] == [
        [Accept(b"OK\n", identity="ann"), "made", b"hel", b"lo", "ConnectionDone"]
    ]
    assert door.server.endings == [("accepted", "session")]
    door.stop()


def test_a_session_that_does_not_read_does_not_keep_us_busy(crank):
    class Pauses(Recorder):
        def connectionMade(self):
            self.transport.pauseProducing()

    door = Opened(crank, Word(), Sessions(Pauses))
    visitor = door.visit()
    visitor.send(b"yes\n")
    visitor.send(b"hello")

    with epoll.fromfd(os.dup(door.port.fileno())) as watched:
        assert watched.poll(0) == []
    visitor.close()
    door.server.factory.shut_down()
    crank.advance(5.2)
    door.stop()


@pytest.mark.parametrize("lookup", [False, True])
def test_a_session_hears_of_the_end_of_the_stream_once(crank, lookup):
    answer = Deferred()

    async def serve(peer):
        await peer.receive_line(64)
        if lookup:
            await answer
        return Accept(b"OK\n")

    sessions = Sessions(HalfClosing)
    door = Opened(crank, runs(serve), sessions)
    visitor = door.visit()
    visitor.socket.sendall(b"yes\nhello")
    visitor.send_eof()
    answer.callback(None)

    assert visitor.receive(3) == b"OK\n"
    crank.turn(5)
    assert [each.told for each in sessions.built] == [[Accept(b"OK\n"), "made", b"hello", "eof"]]
    visitor.close()
    sessions.built[0].transport.loseConnection()
    door.stop()


def test_a_peer_that_was_reset_meanwhile_does_not_get_a_session(crank, recwarn):
    answer = Deferred()

    async def serve(peer):
        await answer
        return Accept()

    sessions, tickets = Sessions(), Tickets()
    door = Opened(crank, runs(serve), sessions, admission=tickets)
    visitor = door.visit()
    crank.until(lambda: opened(door) == 1)
    visitor.vanish()

    answer.callback(None)

    assert [each.told for each in sessions.built] == [[]]
    assert door.server.endings == [("lost", "session")]
    assert tickets.released == 1
    assert left_open(recwarn) == []
    door.stop()


class Banner(Recorder):
    """A session that speaks first."""

    def connectionMade(self):
        self.transport.write(b"hello, ")

    def dataReceived(self, data):
        self.transport.write(data)


class Brief(Banner):
    """One that has said everything then."""

    def dataReceived(self, data):
        super().dataReceived(data)
        self.transport.loseConnection()


def test_what_a_session_says_first_is_sent_with_the_reply_and_without_another_turn(crank):
    door = Opened(crank, Word(), Sessions(Banner))
    visitor = door.visit()
    crank.until(lambda: opened(door) == 1)
    visitor.socket.sendall(b"yes\nann")

    crank.turn()
    visitor.look()

    assert visitor.got == b"OK\nhello, ann"
    assert crank.getWriters() == []
    visitor.close()
    door.stop()


def test_a_session_is_none_of_the_listeners_business_any_more(crank):
    door = Opened(crank, Word(), Sessions())
    visitor = door.visit()
    visitor.send(b"yes\n")
    visitor.socket.sendall(b"hello")

    with epoll.fromfd(os.dup(door.port.fileno())) as watched:
        assert watched.poll(0) == []
    visitor.close()
    door.stop()


def test_a_session_that_closes_when_it_has_spoken_needs_no_other_turn(crank):
    sessions = Sessions(Brief)
    door = Opened(crank, Word(), sessions)
    visitor = door.visit()
    crank.until(lambda: opened(door) == 1)
    visitor.socket.sendall(b"yes\nann")

    crank.turn()
    visitor.look()

    assert (visitor.got, visitor.end) == (b"OK\nhello, ann", "eof")
    assert [each.told for each in sessions.built] == [[OK, "ConnectionDone"]]
    assert door.server.endings == [("accepted", "session")]
    visitor.close()
    door.stop()


@pytest.mark.parametrize("kind", [Recorder, Leaving])
def test_a_session_that_has_nothing_to_send_at_the_end_of_the_stream_is_over_at_once(crank, kind):
    sessions = Sessions(kind)
    door = Opened(crank, Word(), sessions)
    visitor = door.visit()
    visitor.send(b"yes\n")
    assert visitor.receive(3) == b"OK\n"
    visitor.socket.shutdown(socket.SHUT_WR)

    crank.turn()

    assert sessions.built[0].told[-1] == "ConnectionDone"
    assert door.server.endings == [("accepted", "session")]
    assert visitor.receive_all() == (b"", "eof")
    door.stop()


def test_a_session_is_called_by_its_peer_and_its_door_in_the_log(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions)
    visitor = door.visit()
    host, port = visitor.socket.getsockname()
    visitor.send(b"yes\n")

    transport = sessions.built[0].transport
    assert transport.logPrefix() == f"ServerProtocol,{port},{host}"
    assert repr(transport) == f"<ServerProtocol,{port},{host} on 127.0.0.1:{door.place[1]}>"
    visitor.close()
    door.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.ipv6)])
def test_a_session_behind_a_dual_stack_door_knows_both_ends_unmapped(crank, host):
    sessions = Sessions()
    # Whoever observes has asked for the addresses already.
    place = tcp(0, "::", backlog=5, v6=True, dual=True)
    door = Opened(crank, Word(), sessions, door=place, observed=False)
    kind = IPv6Address if ":" in host else IPv4Address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    visitor = Visitor(crank, (host, door.place[1]), family)
    visitor.send(b"yes\n")

    assert visitor.receive(3) == b"OK\n"
    transport = sessions.built[0].transport
    assert transport.getPeer() == kind("TCP", host, visitor.socket.getsockname()[1])
    assert transport.getHost() == kind("TCP", host, door.place[1])
    visitor.close()
    crank.turn(2)
    door.stop()


def test_a_peer_behind_a_wildcard_knows_where_it_has_come_in(crank):
    async def serve(peer):
        return Accept(peer.local.host.encode())

    door = Opened(crank, runs(serve), door=tcp(0, "0.0.0.0", backlog=5))

    assert door.visit(("127.0.0.2", door.place[1])).receive_all() == (b"127.0.0.2", "eof")
    door.stop()


def test_where_one_has_come_in_cannot_be_asked_when_it_has_gone(crank):
    port = Opened(crank, door=tcp(0, "0.0.0.0", backlog=5))

    assert port.port.local_of(None) == port.port.address
    port.stop()


@pytest.mark.parametrize("abstract", [False, True])
def test_a_session_behind_a_unix_door_knows_its_path_and_its_user(crank, tmp_path, abstract):
    async def serve(peer):
        users.append(peer.uid)
        return Accept()

    users = []
    path = f"\0sockproto{os.getpid()}" if abstract else str(tmp_path / "door")
    sessions = Sessions()
    door = Opened(crank, runs(serve), sessions, door=unix(path, backlog=5))
    visitor = door.visit(path)
    crank.until(lambda: sessions.built)

    transport = sessions.built[0].transport
    assert users == [os.getuid()]
    assert transport.getHost() == UNIXAddress(os.fsencode(path))
    assert transport.getPeer() == UNIXAddress(None)
    visitor.close()
    door.stop()
    assert os.listdir(tmp_path) == []


def test_a_session_behind_a_proxy_knows_the_client(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions, proxies="127.0.0.0/8")
    visitor = door.visit()
    visitor.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nyes\nhello")

    assert visitor.receive(3) == b"OK\n"
    (session,) = sessions.built
    assert session.told[1:] == ["made", b"hello"]
    assert session.transport.getPeer() == IPv4Address("TCP", "192.0.2.7", 4711)
    assert session.transport.getHost() == IPv4Address("TCP", "198.51.100.1", 443)
    visitor.close()
    door.stop()


def test_a_proxy_that_speaks_for_itself_is_the_client(crank):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions, proxies="127.0.0.0/8")
    visitor = door.visit()
    visitor.send(b"PROXY UNKNOWN\r\nyes\n")

    assert visitor.receive(3) == b"OK\n"
    peer = sessions.built[0].transport.getPeer()
    assert peer == IPv4Address("TCP", *visitor.socket.getsockname())
    visitor.close()
    door.stop()


def test_a_stranger_with_a_header_is_dropped_without_a_byte(crank):
    door = Opened(crank, proxies="192.0.2.0/24")
    visitor = door.visit()
    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("refused", "proxy")]
    door.stop()


# TLS


def pem(folder):
    found, key = certificate("localhost")
    place = folder / "door.pem"
    place.write_bytes(
        found.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return place


@implementer(IOpenSSLServerConnectionCreator)
class Counted:
    """Makes TLS connections, and counts them."""

    def __init__(self, tls):
        self.tls = tls
        self.made = 0

    def serverConnectionForTLS(self, protocol):
        self.made += 1
        return self.tls.serverConnectionForTLS(protocol)


@pytest.fixture
def tls(tmp_path, crank):
    return Counted(ServerTls(pem(tmp_path), clock=crank))


class TlsVisitor:
    """A client that speaks TLS over a visitor."""

    def __init__(self, visitor, before=b""):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.visitor = visitor
        self.before = before
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.ask(self.tls.do_handshake)

    def flush(self):
        before, self.before = self.before, b""
        data = before + self.outgoing.read()
        if data:
            self.visitor.send(data)

    def ask(self, wanted):
        """Do what takes some bytes to and fro."""
        while True:
            try:
                result = wanted()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.visitor.receive_some()
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                self.flush()
                return result

    def send(self, data):
        self.tls.write(data)
        self.flush()

    def receive(self):
        return self.ask(lambda: self.tls.read(1000))


def test_tls_begins_with_the_first_byte(crank, tls):
    door = Opened(crank, tls=tls)
    visitor = door.visit()
    crank.turn(2)
    assert tls.made == 0
    assert crank.watched[:-1] == [door.port]

    client = TlsVisitor(visitor)
    client.send(b"yes\n")

    assert tls.made == 1
    assert client.receive() == b"OK\n"
    visitor.close()
    crank.until(lambda: door.server.endings)
    assert door.server.verdicts == [("accepted", "handshake", "")]
    door.stop()


def test_a_probe_of_a_tls_door_costs_no_tls(crank, tls):
    door = Opened(crank, tls=tls)
    door.visit().close()

    assert door.server.endings == [("probe", "tls")]
    assert tls.made == 0
    door.stop()


def test_a_silent_client_of_a_tls_door_is_timed_out(crank, tls):
    door = Opened(crank, tls=tls, limits=Limits(handshake_timeout=1))
    visitor = door.visit()
    crank.advance(1.3)

    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("timeout", "tls")]
    assert tls.made == 0
    door.stop()


@pytest.mark.parametrize(("said", "silent"), [(b"", True), (b"\x16", False)])
def test_admission_hears_whether_a_client_of_a_tls_door_was_silent(crank, tls, said, silent):
    tickets = Tickets()
    door = Opened(crank, tls=tls, admission=tickets, limits=Limits(handshake_timeout=1))
    visitor = door.visit()
    visitor.send(said)
    crank.advance(1.3)

    assert tickets.verdicts == [("timeout", silent)]
    visitor.close()
    door.stop()


def test_a_client_that_goes_on_and_on_before_tls_is_there_is_reset(crank, tls):
    door = Opened(crank, tls=tls)
    visitor = door.visit()
    # A ClientHello that will have 131,396 bytes (RFC 8446 sections 4 and 5.1).
    visitor.send(b"\x16\x03\x01\x40\x00\x01\x02\x01\x44" + bytes(16380) + b"\x16\x03\x01\x40\x00")

    assert visitor.receive_all() == (b"", "reset")
    words = "peer sent more than 16384 bytes, the limit set by max_tls_bytes"
    assert door.server.verdicts == [("limit", "tls", words)]
    door.stop()


def test_what_is_no_tls_is_a_violation(crank, tls):
    door = Opened(crank, tls=tls)
    visitor = door.visit()
    visitor.send(b"GET / HTTP/1.0\r\n\r\n")
    crank.until(lambda: door.server.endings)

    assert door.server.endings == [("violation", "tls")]
    visitor.close()
    door.stop()


@pytest.mark.parametrize("end", [b"", b"\0"])
def test_a_proxy_in_front_of_tls_is_heard_with_the_first_byte_of_it(crank, tls, end):
    sessions = Sessions()
    door = Opened(crank, Word(), sessions, tls=tls, proxies="127.0.0.0/8")
    visitor = door.visit()
    header = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
    if end:
        visitor.send(header)
        assert tls.made == 0
        header = b""
    client = TlsVisitor(visitor, before=header)
    client.send(b"yes\nhello")

    assert client.receive() == b"OK\n"
    assert tls.made == 1
    (session,) = sessions.built
    assert session.told[1:] == ["made", b"hello"]
    assert session.transport.getPeer() == IPv4Address("TCP", "192.0.2.7", 4711)
    visitor.close()
    crank.until(lambda: not door.server.live)
    door.stop()


def test_a_handshake_that_asks_for_tls_gets_it(crank, tls):
    async def serve(peer):
        await peer.receive_line(64)
        peer.send(b"go ahead\n")
        await peer.start_tls()
        word = await peer.receive_line(64)
        return Accept(word)

    door = Opened(crank, runs(serve), tls=None)
    door.server.factory.terms.tls = tls
    visitor = door.visit()
    visitor.send(b"STARTTLS\n")
    assert visitor.receive(9) == b"go ahead\n"
    client = TlsVisitor(visitor)
    client.send(b"secret\n")

    assert client.receive() == b"secret"
    visitor.close()
    crank.until(lambda: not door.server.live)
    door.stop()


def test_a_connection_that_nothing_says_how_to_make_tls_for_is_let_go(crank, logged, recwarn):
    door = Opened(crank, tls=object())
    visitor = door.visit()
    visitor.send(b"\x16\x03\x01")

    assert visitor.receive_all()[1] == "eof"
    assert len(logged.take()) == 1
    assert left_open(recwarn) == []
    door.stop()


def test_a_connection_that_tls_cannot_be_made_for_is_let_go(crank, logged):
    @implementer(IOpenSSLServerConnectionCreator)
    class Fails:
        def serverConnectionForTLS(self, protocol):
            raise ValueError("no such cipher")

    tickets = Tickets()
    door = Opened(crank, tls=Fails(), admission=tickets)
    visitor = door.visit()
    visitor.send(b"\x16\x03\x01")

    assert visitor.receive_all()[1] == "reset"
    assert logged.take() == [
        "a connection could not become a transport: ValueError('no such cipher')"
    ]
    assert len(door.server.endings) == 1
    assert tickets.released == 1
    door.stop()
