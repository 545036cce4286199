import errno
import gc
import os
import socket
import weakref
from contextlib import suppress
from select import EPOLLIN

import pytest
from twisted.internet.defer import Deferred

from sockproto import Accept, Limits, Reject
from sockproto.core.facts import Address
from sockproto.events import HandshakeEnded
from sockproto.transport.bare import DISCARD_SIZE, MAX_DISCARDS, READ_SIZE, SocketWire, address_from
from sockproto.transport.gate import Gate
from sockproto.transport.lease import LOST
from sockproto.transport.sockets import tcp, unix

from .crank import Opened, Visitor, cranked
from .kit import HalfClosing, Recorder, Server, Sessions, Tickets, Word, runs

PATIENT = Limits(idle_timeout=60, handshake_timeout=60)


@pytest.fixture
def crank():
    with cranked() as crank:
        yield crank


def narrow():
    """A door whose connections have next to no room for what is to be sent."""
    door = tcp(0, "127.0.0.1", backlog=5)
    door.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return door


class Slow(Visitor):
    """A visitor with next to no room for what it receives."""

    def connected(self, place):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        super().connected(place)


# What is read


@pytest.mark.parametrize("size", [1, 3, 4])
def test_bytes_are_heard_however_they_are_cut(crank, size):
    door = Opened(crank)
    visitor = door.visit()
    for at in range(0, 4, size):
        visitor.send(b"yes\n"[at : at + size])

    assert visitor.receive_all() == (b"OK\n", "eof")
    door.stop()


def test_a_peer_that_comes_and_goes_is_a_probe(crank):
    door = Opened(crank)
    door.visit().close()

    assert door.server.endings == [("probe", "handshake")]
    door.stop()


@pytest.mark.parametrize("said", [b"", b"ye"])
def test_a_peer_that_is_reset_is_lost_or_was_a_probe(crank, said):
    door = Opened(crank)
    visitor = door.visit()
    visitor.send(said)
    visitor.vanish()
    crank.until(lambda: door.server.endings)

    assert door.server.endings == [("lost" if said else "probe", "handshake")]
    door.stop()


def test_a_peer_that_has_half_closed_gets_its_answer(crank):
    async def serve(peer):
        return Accept(await peer.receive_to_end(100))

    door = Opened(crank, runs(serve))
    visitor = door.visit()
    visitor.send(b"all of it")
    visitor.send_eof()

    assert visitor.receive_all() == (b"all of it", "eof")
    assert door.server.endings == [("accepted", "closing")]
    door.stop()


def test_a_peer_that_has_half_closed_is_not_looked_at_while_we_look_something_up(crank):
    answer = Deferred()

    async def serve(peer):
        await answer
        return Accept(b"found")

    door = Opened(crank, runs(serve))
    visitor = door.visit()
    visitor.send_eof()
    visits = []
    look = door.port.doRead
    door.port.doRead = lambda: visits.append(look())
    crank.turn(10)
    assert visits == []

    answer.callback(None)

    assert visitor.receive_all() == (b"found", "eof")
    del door.port.doRead
    door.stop()


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_peer_that_goes_while_we_look_something_up_is_lost(crank, tmp_path, how):
    async def serve(peer):
        await answer
        return Accept(b"found")

    answer = Deferred(lambda deferred: None)
    # Over a unix socket a plain close is told at once, whether we want to read or not.
    local = unix(str(tmp_path / "door"), backlog=5) if how == "close" else None
    door = Opened(crank, runs(serve), door=local)
    visitor = door.visit(door.port.address.path or None)
    visitor.send_eof()
    if how == "close":
        visitor.close()
    else:
        visitor.vanish()
    crank.until(lambda: door.server.endings)

    assert door.server.endings == [("probe", "handshake")]
    door.stop()


def test_a_peer_that_says_too_much_while_we_look_something_up_is_not_read(crank):
    async def serve(peer):
        await answer
        await peer.receive_exactly(50000)
        return Accept(b"found")

    answer = Deferred()
    door = Opened(crank, runs(serve), limits=PATIENT)
    visitor = door.visit()
    visitor.send(b"x" * 50000)
    crank.turn(10)
    assert door.server.verdicts == []

    answer.callback(None)

    assert visitor.receive_all()[0] == b""
    assert door.server.endings == [("limit", "handshake")]
    door.stop()


def test_one_that_was_paused_is_read_again(crank):
    async def serve(peer):
        await answer
        return Accept(b"OK\n")

    answer = Deferred()
    door = Opened(crank, runs(serve), Sessions())
    visitor = door.visit()
    visitor.send(b"x" * (3 * READ_SIZE))
    answer.callback(None)
    assert visitor.receive(3) == b"OK\n"
    visitor.send(b"y")

    session = door.server.factory.terms.sessions[""].built[0]
    assert b"".join(session.told[2:]) == b"x" * (3 * READ_SIZE) + b"y"
    visitor.close()
    door.stop()


# What is sent


def test_what_does_not_fit_goes_through_a_transport_in_order(crank):
    reply = bytes(range(256)) * 256

    async def serve(peer):
        await peer.receive_line(64)
        return Accept(reply)

    door = Opened(crank, runs(serve), door=narrow())
    visitor = Slow(crank, door.place)
    visitor.send(b"yes\n")

    assert visitor.receive_all() == (reply, "eof")
    assert door.server.endings == [("accepted", "closing")]
    door.stop()


def test_what_does_not_fit_is_followed_by_the_rest_of_the_handshake(crank):
    banner = b"b" * 60000

    async def serve(peer):
        peer.send(banner)
        word = await peer.receive_line(64)
        peer.send(word)
        return Reject(b"!", reason="just so")

    door = Opened(crank, runs(serve), door=narrow())
    visitor = Slow(crank, door.place)
    assert visitor.receive(len(banner)) == banner
    visitor.send(b"yes\n")
    visitor.send_eof()

    assert visitor.receive_all() == (b"yes!", "eof")
    assert door.server.endings == [("rejected", "closing")]
    door.stop()


def test_a_goodbye_that_does_not_fit_lingers(crank):
    reply = b"no" * 30000

    async def serve(peer):
        await peer.receive_line(64)
        return Reject(reply, reason="just so")

    door = Opened(crank, runs(serve), door=narrow())
    visitor = Slow(crank, door.place)
    visitor.send(b"yes\n" + b"x" * 100)

    assert visitor.receive(len(reply)) == reply
    assert door.server.endings == []
    visitor.send_eof()
    assert visitor.receive_all() == (b"", "eof")
    door.stop()


@pytest.mark.parametrize("ended", [False, True])
def test_a_session_begins_behind_a_reply_that_does_not_fit(crank, ended):
    reply = b"yes" * 20000

    async def serve(peer):
        await peer.receive_line(64)
        return Accept(reply)

    sessions = Sessions(HalfClosing)
    door = Opened(crank, runs(serve), sessions, door=narrow())
    visitor = Slow(crank, door.place)
    visitor.socket.sendall(b"yes\nhello")
    if ended:
        visitor.socket.shutdown(socket.SHUT_WR)

    assert visitor.receive(len(reply)) == reply
    crank.turn(5)
    told = sessions.built[0].told[1:]
    assert told == ["made", b"hello", *(["eof"] if ended else [])]
    visitor.close()
    sessions.built[0].transport.loseConnection()
    crank.until(lambda: not door.server.live)
    door.stop()


def test_the_end_is_heard_once_behind_a_lookup_and_a_reply_that_does_not_fit(crank):
    reply = b"yes" * 20000

    async def serve(peer):
        await answer
        return Accept(reply)

    answer = Deferred()
    sessions = Sessions(HalfClosing)
    door = Opened(crank, runs(serve), sessions, door=narrow())
    visitor = Slow(crank, door.place)
    visitor.socket.sendall(b"hello")
    visitor.send_eof()
    answer.callback(None)

    assert visitor.receive(len(reply)) == reply
    crank.turn(5)
    assert sessions.built[0].told[1:] == ["made", b"hello", "eof"]
    sessions.built[0].transport.loseConnection()
    assert visitor.receive_all() == (b"", "eof")
    door.stop()


def test_who_goes_before_the_greeting_is_a_probe(crank):
    async def serve(peer):
        peer.send(b"hello\n")
        await peer.receive_line(64)
        return Accept()

    door = Opened(crank, runs(serve))
    door.visit().vanish()
    crank.until(lambda: door.server.endings)

    assert door.server.endings == [("probe", "handshake")]
    door.stop()


def test_a_reset_that_sending_has_hit_upon_is_not_taken_for_an_orderly_end(crank, tmp_path):
    async def serve(peer):
        peer.send(b"hello\n")
        await peer.receive_to_end(100)
        return Accept()

    door = Opened(crank, runs(serve), door=unix(str(tmp_path / "door"), backlog=5))
    visitor = door.visit(door.port.address.path)
    visitor.socket.sendall(b"half of i")
    visitor.socket.close()
    crank.until(lambda: door.server.endings)

    words = "peer disconnected after 9 bytes, expected receive_to_end(max_bytes=100)"
    assert [each[:2] for each in door.server.verdicts] == [("lost", "handshake")]
    assert door.server.verdicts[0][2].startswith(words[:34])
    door.stop()


class Crowded(socket.socket):
    """A socket that the kernel has no buffer for at first (ENOBUFS in send(2))."""

    crowded = True

    def send(self, data, flags=0):
        if self.crowded:
            self.crowded = False
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        return super().send(data, flags)


class Host:
    """A listener, as far as a wire needs one; of which no transport can be had."""

    sessions = ()

    def __init__(self):
        self.did = []

    def local_of(self, bare):
        return Address("memory")

    def watch(self, fileno, events):
        self.did.append(("watch", events))

    def forget(self, fileno):
        self.did.append("forget")

    def adopt(self, fileno, bare, gate, early):
        bare.close()
        self.did.append(("adopt", early))


class Alone:
    """A wire with its gate, on one end of a socket pair; we are the other end, and epoll."""

    def __init__(self, handshake=None, kind=socket.socket, tls=False, **terms):
        self.server = Server(handshake, **terms)
        self.host = Host()
        here, self.there = socket.socketpair()
        bare = kind(fileno=here.detach())
        self.wire = SocketWire(self.host, bare, bare.fileno(), "")
        self.gate = Gate(self.server.factory.terms, self.wire, self.wire)
        self.wire.gate = self.gate
        self.gate.open(tls=tls)

    def send(self, data):
        self.there.sendall(data)
        self.wire.readable()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.there.close()
        self.wire.abort()
        assert self.server.left_behind == []


def test_what_the_kernel_has_no_room_for_needs_a_transport():
    with Alone(kind=Crowded) as alone:
        alone.send(b"yes\n")

        # There is none to be had.
        assert alone.host.did == [("adopt", None)]
        assert alone.server.endings == [("accepted", "closing")]
        assert alone.there.recv(10) == b""


def test_what_finds_no_room_in_the_buffer_needs_a_transport():
    with Alone() as alone:
        alone.wire.bare.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                alone.wire.bare.send(b"x" * 65536)
        alone.wire.write(b"one more")

        assert alone.host.did == [("adopt", None)]
        assert alone.server.endings == [("probe", "handshake")]


def test_the_first_byte_of_tls_needs_a_transport():
    with Alone(tls=True) as alone:
        alone.send(b"\x16\x03\x01")

        assert alone.host.did == [("adopt", b"\x16\x03\x01")]
        assert len(alone.server.endings) == 1


def test_what_is_said_in_the_middle_of_the_change_is_passed_on(crank):
    async def serve(peer):
        await peer.receive_line(64)
        return Accept(b"yes" * 20000)

    class Talks(Recorder):
        def handshake_accepted(self, accept):
            wire.write(b"!")
            wire.half_close()

    door = Opened(crank, runs(serve), Sessions(Talks), door=narrow())
    visitor = Slow(crank, door.place)
    visitor.send(b"yes")
    (gate,) = door.server.live
    wire = gate.facts
    del gate
    visitor.send(b"\n")

    assert visitor.receive_all() == (b"yes" * 20000 + b"!", "eof")
    crank.until(lambda: not door.server.live)
    door.stop()


def test_one_that_breaks_in_the_middle_of_the_change_is_reset(crank, logged):
    def observe(event):
        if isinstance(event, HandshakeEnded) and event.reason == "accepted":
            raise KeyboardInterrupt("an observer that means it")

    async def serve(peer):
        await peer.receive_line(64)
        return Accept(b"yes" * 20000)

    door = Opened(crank, runs(serve), Sessions(), door=narrow(), observers=[observe])
    visitor = Slow(crank, door.place)
    visitor.send(b"yes\n")

    assert visitor.receive_all()[1] == "reset"
    assert logged.take() == ["a connection broke: KeyboardInterrupt('an observer that means it')"]
    assert len(door.server.endings) == 1
    door.stop()


def test_nothing_more_is_asked_of_a_wire_that_could_not_become_a_transport():
    with Alone(kind=Crowded) as alone:
        alone.send(b"no\n")
        alone.wire.write(b"more")
        alone.wire.half_close()
        alone.wire.close()
        alone.wire.leave()

        assert alone.host.did == [("adopt", None)]
        assert alone.server.endings == [("rejected", "closing")]


def test_a_session_does_not_begin_where_there_is_no_transport():
    sessions, tickets = Sessions(), Tickets()
    with Alone(session=sessions, admission=tickets) as alone:
        alone.send(b"yes\n")

        # Nor is it promised one.
        assert alone.there.recv(10) == b""
        assert [each.told for each in sessions.built] == [[]]
        assert alone.server.endings == [("lost", "session")]
        assert tickets.released == 1


class Outer:
    """What a listener has made of a wire, as far as that passes things on."""

    transport = None

    def __init__(self):
        self.did = []

    def abort(self):
        self.did.append("abort")

    def hand_over(self, gate, session, accept, early, *, ended):
        self.did.append(("hand over", session, early, ended))


def test_what_it_is_told_once_it_is_a_transport_it_passes_on():
    with Alone() as alone:
        outer = Outer()
        alone.host.adopt = lambda fileno, bare, gate, early: (bare.close(), outer)[1]
        alone.wire.start_tls(b"")

        alone.wire.hand_over(alone.gate, "session", Accept(), b"early", ended=True)
        alone.wire.abort()

        assert outer.did == [("hand over", "session", b"early", False), "abort"]
        alone.gate.wire_lost(LOST)


def test_an_event_that_is_about_nothing_changes_nothing():
    with Alone() as alone:
        alone.wire.readable()

        assert alone.host.did == []
        assert alone.server.verdicts == []


def test_reading_is_paused_and_resumed():
    with Alone() as alone:
        alone.wire.pause_reading()
        assert alone.wire.interest == 0
        alone.wire.resume_reading()

        assert alone.wire.interest == EPOLLIN
        assert alone.host.did == [("watch", 0), ("watch", EPOLLIN)]


def test_there_is_nothing_to_resume_after_the_end():
    async def serve(peer):
        await Deferred()

    with Alone(runs(serve)) as alone:
        alone.there.shutdown(socket.SHUT_WR)
        alone.wire.readable()
        alone.wire.resume_reading()

        assert alone.host.did == [("watch", 0)]
        # Nothing can come but the end of all.
        alone.there.close()
        alone.wire.readable()
        assert alone.host.did[1:] == ["forget"]
        assert alone.server.endings == [("probe", "handshake")]


def test_a_peer_that_cannot_be_told_goodbye_any_more_is_not_told():
    with Alone() as alone:
        alone.there.close()
        alone.wire.half_close()
        alone.wire.bare.close()
        alone.wire.half_close()
        alone.wire.close()

        assert alone.host.did == ["forget"]


# To go


def test_a_goodbye_lingers_and_discards_whatever_comes(crank):
    door = Opened(crank)
    visitor = door.visit()
    visitor.send(b"no\n")
    for _ in range(10):
        visitor.send(b"x" * DISCARD_SIZE)

    assert visitor.receive(3) == b"NO\n"
    assert door.server.endings == []
    visitor.send_eof()
    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("rejected", "closing")]
    door.stop()


def test_who_does_not_go_is_reset(crank):
    door = Opened(crank)
    visitor = door.visit()
    visitor.send(b"no\n")
    assert visitor.receive(3) == b"NO\n"
    crank.advance(4.9)
    assert door.server.endings == []
    crank.advance(0.3)

    assert door.server.endings == [("rejected", "closing")]
    with pytest.raises(BrokenPipeError):
        visitor.socket.send(b"x")
    visitor.close()
    door.stop()


def test_a_silent_peer_is_left_without_a_reset(crank):
    door = Opened(crank)
    visitor = door.visit()
    crank.advance(5.2)

    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("timeout", "handshake")]
    door.stop()


def test_a_silent_peer_that_is_owed_something_is_reset(crank):
    async def serve(peer):
        peer.send(b"hello\n")
        await peer.receive_line(64)

    door = Opened(crank, runs(serve))
    visitor = door.visit()
    crank.advance(5.2)

    assert visitor.receive_all() == (b"hello\n", "reset")
    door.stop()


# Over TCP our FIN comes before any reset; over a unix socket nothing does.
@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("size", [0, 10, DISCARD_SIZE + 1])
def test_what_has_come_is_read_before_we_leave_so_that_nobody_is_reset(crank, tmp_path, size, kind):
    local = unix(str(tmp_path / "door"), backlog=5) if kind == "unix" else None
    door = Opened(crank, door=local)
    visitor = door.visit(door.port.address.path or None)
    visitor.send(b"ye")
    visitor.socket.sendall(b"x" * size)

    door.server.factory.shut_down()

    assert visitor.receive_all() == (b"", "eof")
    assert door.server.endings == [("shutdown", "handshake")]
    door.stop()


@pytest.mark.parametrize("gone", [False, True])
def test_we_leave_who_has_left(crank, gone):
    door = Opened(crank)
    visitor = door.visit()
    visitor.send(b"ye")
    if gone:
        visitor.vanish()
    else:
        visitor.socket.close()

    door.server.factory.shut_down()

    assert door.server.endings == [("shutdown", "handshake")]
    door.stop()


def test_we_do_not_read_for_ever_when_we_leave():
    with Alone() as alone:

        class Flood(socket.socket):
            reads = 0

            def recv(self, size, flags=0):
                Flood.reads += 1
                return b"x" * size

        alone.wire.bare = Flood(fileno=alone.wire.bare.detach())
        alone.wire.leave()

        assert Flood.reads == MAX_DISCARDS


def test_to_go_twice_is_to_go_once():
    with Alone() as alone:
        alone.wire.close()
        alone.wire.close()
        alone.wire.leave()
        alone.wire.abort()
        alone.wire.pause_reading()
        alone.wire.start_tls(b"")

        assert alone.host.did == ["forget"]
        assert len(alone.server.endings) == 1


@pytest.mark.parametrize("word", [b"yes\n", b"no\n"])
@pytest.mark.parametrize("session", [False, True])
def test_nothing_of_it_is_left_when_it_is_over(crank, word, session):
    door = Opened(crank, Word(), Sessions() if session else None)
    visitor = door.visit()
    visitor.send(word[:1])
    (gate,) = door.server.live
    gone = weakref.ref(gate)
    del gate
    gc.collect()
    gc.disable()
    try:
        visitor.send(word[1:])
        visitor.send_eof()

        assert gone() is None
    finally:
        gc.enable()
    visitor.close()
    crank.until(lambda: not door.server.live)
    door.stop()


# What is known


def test_what_is_known_about_a_peer_is_known_when_it_has_become_a_transport(crank, tmp_path):
    async def serve(peer):
        peer.send(b"b" * 60000)
        await peer.receive_exactly(1)
        known.append((peer.address, peer.local, peer.uid, peer.tls, peer.sessions))
        return Accept()

    known = []
    place = unix(str(tmp_path / "door"), backlog=5)
    door = Opened(crank, runs(serve), {"chat": Sessions()}, door=place)
    visitor = Visitor(crank, place.address.path)
    # More than one buffer holds, wherever it is (SO_SNDBUF in socket(7)).
    assert visitor.receive(60000) == b"b" * 60000
    visitor.send(b"x")

    assert known == [(Address("unix"), place.address, os.getuid(), None, ("chat",))]
    visitor.close()
    crank.until(lambda: not door.server.live)
    door.stop()


def test_a_peer_over_tcp_has_no_user(crank):
    async def serve(peer):
        return Accept(f"{peer.uid} {peer.address}".encode())

    door = Opened(crank, runs(serve))
    visitor = door.visit()
    host, port = visitor.socket.getsockname()

    assert visitor.receive_all() == (f"None {host}:{port}".encode(), "eof")
    door.stop()


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        (("192.0.2.1", 80), Address("inet", "192.0.2.1", 80)),
        (("::ffff:192.0.2.1", 80, 0, 0), Address("inet", "192.0.2.1", 80)),
        (("2001:db8::1", 80, 0, 0), Address("inet6", "2001:db8::1", 80)),
        ("", Address("unix")),
        ("/run/client", Address("unix", path="/run/client")),
        (b"\0hidden\xff", Address("unix", path="\0hidden\udcff")),
    ],
)
def test_an_address_is_what_the_socket_module_says_in_our_words(remote, address):
    assert address_from(remote) == address
