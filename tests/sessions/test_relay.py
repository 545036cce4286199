"""Standard input and output on one side, a peer on the other; each waits for the other."""

from __future__ import annotations

import os
import select
import socket

import pytest
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from sockproto.sessions.relay import QUIET, Relay

CHUNK = bytes(range(256)) * 256


class Wire(StringTransport):
    """What the relay does to its connection, in memory."""

    aborted = half_closed = False

    def unregisterProducer(self):
        # As a real transport has it: once more does no harm.
        self.producer = None

    def loseWriteConnection(self):
        self.half_closed = True

    def abortConnection(self):
        self.aborted = True
        super().abortConnection()


class TlsWire(Wire):
    """The same, over TLS."""

    negotiatedProtocol = None


class TlsLine(tcp.Connection):
    """Twisted's own transport, on one end of a socket pair; what it says of itself is TLS."""

    negotiatedProtocol = None
    connected = 1

    def __init__(self, reactor):
        self.here, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        super().__init__(self.here, None, reactor)
        self.startReading()

    def leave(self):
        self.peer.close()
        self.here.close()


class Shell:
    """
    A relay between a connection in memory and a pair of pipes; we hold the other ends.

    The reactor is Twisted's in memory: it knows who wants to read or write, and does so when it is
    told to turn.
    """

    def __init__(self, wire=None, stdout=None, *, line=False):
        self.reactor = MemoryReactorClock()
        if line:
            wire = TlsLine(self.reactor)
        stdin, self.typing = os.pipe()
        self.screen, pipe = os.pipe()
        os.set_blocking(self.screen, False)
        self.open = {stdin, pipe, self.typing, self.screen}
        if stdout is not None:
            self.open.add(stdout)
        self.wire = wire or Wire()
        self.relay = Relay(stdin, pipe if stdout is None else stdout, self.reactor)
        self.results = []
        self.relay.finished.addCallback(self.results.append)
        self.wire.protocol = self.relay
        self.relay.makeConnection(self.wire)

    def type(self, data):
        os.write(self.typing, data)
        self.turn()

    def close(self, descriptor):
        self.open.remove(descriptor)
        os.close(descriptor)
        self.turn()

    def read(self):
        """What has been printed so far."""
        parts = []
        while True:
            self.turn()
            try:
                parts.append(os.read(self.screen, 1 << 20))
            except BlockingIOError:
                return b"".join(parts)

    def wait(self, seconds):
        """Let time pass, and the reactor turn."""
        for _ in range(round(seconds * 10)):
            self.reactor.advance(0.1)
            self.turn()

    def lose(self, why):
        self.relay.connectionLost(Failure(why))
        self.turn()

    def turn(self):
        """Do what a reactor does, until nothing is ready."""
        for _ in range(1000):
            readers, writers = self.reactor.getReaders(), self.reactor.getWriters()
            ready = select.select(readers, writers, [], 0)
            if not ready[0] and not ready[1]:
                return
            for each in ready[0]:
                self._did(each, each.doRead())
            for each in ready[1]:
                if each in self.reactor.getWriters():
                    self._did(each, each.doWrite())
        raise AssertionError("it never comes to rest")

    def _did(self, each, why):
        if why:
            self.reactor.removeReader(each)
            self.reactor.removeWriter(each)
            each.connectionLost(Failure(why))

    def leave(self):
        for descriptor in self.open:
            os.close(descriptor)
        if isinstance(self.wire, TlsLine):
            self.wire.leave()


@pytest.fixture
def start():
    """Start relays, and close what they hold afterwards."""
    started = []

    def start(*arguments, **more):
        started.append(Shell(*arguments, **more))
        return started[-1]

    yield start
    for each in started:
        each.leave()


@pytest.fixture
def shell(start):
    return start()


def test_what_is_typed_is_sent_and_what_the_peer_says_is_printed(shell):
    shell.type(b"hello")
    shell.relay.dataReceived(b"and ")
    shell.relay.dataReceived(b"welcome")

    assert shell.wire.value() == b"hello"
    assert shell.read() == b"and welcome"
    assert shell.results == []


def test_the_end_of_the_input_is_a_half_close_and_the_peer_may_go_on(shell):
    shell.type(b"hello")
    shell.close(shell.typing)

    assert shell.wire.half_closed
    assert not shell.wire.disconnecting
    shell.relay.writeConnectionLost()
    shell.relay.dataReceived(b"still here")
    assert shell.read() == b"still here"
    assert shell.results == []


LATE = QUIET / 4 + 0.2
"""What may pass until the peer's silence is noticed: a quarter, and a turn of ours."""


def test_over_tls_the_end_of_the_input_closes_when_the_peer_has_answered(start):
    shell = start(line=True)
    shell.type(b"hello")
    shell.close(shell.typing)
    assert shell.wire.peer.recv(100) == b"hello"

    for answer in (b"well", b"come", b"!"):
        shell.wait(QUIET - 0.3)
        shell.wire.peer.send(answer)
        assert shell.read() == answer
    assert not shell.wire.disconnecting
    shell.wait(QUIET + LATE)

    assert shell.wire.disconnecting
    assert shell.results == [True]
    assert shell.reactor.getDelayedCalls() == []


def test_over_tls_a_peer_that_closes_first_is_not_waited_for(start):
    shell = start(TlsWire())
    shell.close(shell.typing)
    shell.relay.dataReceived(b"goodbye")

    shell.lose(ConnectionDone())

    assert (shell.read(), shell.results) == (b"goodbye", [True])
    assert shell.reactor.getDelayedCalls() == []


def test_over_tls_a_peer_that_has_yet_to_take_what_was_typed_is_waited_for(start):
    shell = start(line=True)
    shell.wire.write(bytes(1_000_000))
    shell.close(shell.typing)
    taken = 0
    while shell.wire.producer is not None:
        taken += len(shell.wire.peer.recv(65536))
        shell.turn()
    # The kernel has got all of it, and the peer has not.
    steps = 0
    while taken < 1_000_000:
        shell.wait(QUIET - 0.3)
        assert not shell.wire.disconnecting
        taken += len(shell.wire.peer.recv(65536))
        steps += 1

    assert steps > 1


@pytest.mark.parametrize("ended", ["before", "after"])
def test_over_tls_whoever_does_not_print_does_not_make_the_peer_silent(start, ended):
    shell = start(line=True)
    if ended == "before":
        shell.close(shell.typing)
    sent = 0
    while shell.wire in shell.reactor.getReaders():
        sent += shell.wire.peer.send(CHUNK)
        shell.turn()
    sent += shell.wire.peer.send(b"the last word")
    if ended == "after":
        shell.close(shell.typing)

    shell.wait(10 * QUIET)
    assert not shell.wire.disconnecting
    printed = shell.read()
    assert len(printed) == sent
    assert printed.endswith(b"the last word")
    shell.wait(QUIET + LATE)

    assert shell.results == [True]


def test_over_tls_a_peer_that_does_not_say_goodbye_is_left(start):
    shell = start(TlsWire())
    shell.close(shell.typing)

    # What is not in memory would be watched for longer than that.
    shell.reactor.advance(QUIET)
    assert shell.wire.disconnecting
    assert not shell.wire.half_closed
    assert not shell.wire.aborted
    shell.reactor.advance(QUIET)
    assert shell.wire.aborted
    shell.lose(ConnectionLost())

    assert shell.results == [True]
    assert shell.reactor.getDelayedCalls() == []


def test_when_the_peer_has_finished_so_have_we(shell):
    shell.type(b"hello")
    shell.relay.dataReceived(b"goodbye")

    shell.relay.readConnectionLost()
    assert shell.wire.disconnecting
    assert shell.wire.producer is None
    shell.lose(ConnectionDone())

    assert shell.results == [True]
    assert shell.relay.broken_by is None
    assert shell.read() == b"goodbye"


def test_it_is_over_only_when_everything_is_printed(shell):
    while shell.wire.producerState == "producing":
        shell.relay.dataReceived(CHUNK)

    shell.relay.readConnectionLost()
    shell.lose(ConnectionDone())
    assert shell.results == []

    assert set(shell.read()) == set(CHUNK)
    assert shell.results == [True]


def test_a_peer_waits_for_whoever_reads_what_it_says(shell):
    sent = 0
    while shell.wire.producerState == "producing":
        shell.relay.dataReceived(CHUNK)
        sent += len(CHUNK)
        shell.turn()
    # The pipe itself, and a write buffer.
    assert sent <= 4 * len(CHUNK)

    assert len(shell.read()) == sent
    assert shell.wire.producerState == "producing"


def test_whoever_types_waits_for_a_peer_that_does_not_read(shell):
    shell.type(b"hello")
    shell.wire.producer.pauseProducing()
    shell.type(b", world")
    assert shell.wire.value() == b"hello"

    shell.wire.producer.resumeProducing()
    shell.turn()

    assert shell.wire.value() == b"hello, world"


def test_a_connection_that_breaks_is_told_apart_and_what_it_brought_is_printed(shell):
    shell.relay.dataReceived(b"all is w")

    shell.lose(ConnectionLost())

    assert shell.results == [False]
    assert isinstance(shell.relay.broken_by, ConnectionLost)
    assert shell.read() == b"all is w"


def test_where_nobody_reads_the_connection_is_aborted(shell):
    shell.close(shell.screen)
    shell.relay.dataReceived(b"anybody there?")
    shell.turn()

    assert shell.wire.aborted
    assert shell.results == []
    shell.lose(ConnectionLost())

    assert shell.results == [False]


def test_a_last_word_that_nobody_took_is_no_success(start):
    shell = start(stdout=os.open("/dev/full", os.O_WRONLY))

    shell.relay.dataReceived(b"the last word")
    shell.relay.readConnectionLost()
    shell.lose(ConnectionDone())

    assert shell.results == [False]


def test_in_the_end_nothing_of_it_is_in_the_reactor_and_the_pipes_are_still_open(shell):
    shell.lose(ConnectionDone())

    assert shell.results == [True]
    assert shell.reactor.getReaders() == shell.reactor.getWriters() == []
    for descriptor in shell.open:
        os.fstat(descriptor)
