import subprocess
import sys

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from sockproto import Accept, Limits
from sockproto.transport.factory import EntranceFactory, side_of
from sockproto.transport.server import ServerFactory

from .kit import Connection, Server, Sessions, Word, runs


class Half:
    """A handshake with one side only."""

    async def connect(self, peer):
        return Accept()


def test_a_side_is_found_by_its_name():
    word = Word()

    assert (side_of(word, "serve"), side_of(word, "connect")) == (word.serve, word.connect)


def test_a_handshake_without_the_side_that_is_needed_is_refused():
    with pytest.raises(TypeError) as raised:
        side_of(Half(), "serve")
    assert str(raised.value) == "a Half is no handshake here: it lacks async def serve(self, peer)"


def test_a_side_must_be_callable():
    class Odd:
        serve = 1

    with pytest.raises(TypeError) as raised:
        side_of(Odd(), "serve")
    assert str(raised.value) == "a Odd is no handshake here: it lacks async def serve(self, peer)"


def test_a_class_is_not_a_handshake_yet():
    with pytest.raises(TypeError) as raised:
        ServerFactory(Word)
    assert str(raised.value) == "Word is a class, expected a handshake: call it first"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            {"session": Protocol},
            "Protocol is a class, expected a session: Factory.forProtocol(Protocol)",
        ),
        ({"session": {"chat": Protocol()}}, "a Protocol is no session: it lacks buildProtocol()"),
        ({"limits": None}, "limits must be Limits(…), got a NoneType"),
    ],
)
def test_what_is_not_what_it_has_to_be_is_refused_before_a_peer_comes(arguments, complaint):
    with pytest.raises(TypeError) as raised:
        ServerFactory(Word(), **arguments)
    assert str(raised.value) == complaint


def test_all_connections_of_a_factory_have_the_same_terms():
    clock = Clock()
    limits = Limits(idle_timeout=30)
    factory = ServerFactory(Word(), limits=limits, clock=clock)

    assert factory.terms is factory.terms
    assert (factory.terms.limits, factory.terms.clock) == (limits, clock)
    assert factory.terms.serving


def test_making_a_factory_installs_no_reactor():
    program = (
        "import sys\n"
        "from sockproto import ServerFactory\n"
        "from sockproto.handshakes.welcome import Welcome\n"
        "factory = ServerFactory(Welcome())\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
        "clock = factory.terms.clock\n"
        "from twisted.internet import reactor\n"
        "assert clock is reactor\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_clock_is_the_reactors_unless_given(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("sockproto.transport.factory._default_clock", lambda: clock)

    assert ServerFactory(Word()).terms.clock is clock


def test_the_reactor_is_the_default_clock():
    from sockproto.transport.factory import _default_clock

    # pytest-twisted runs one; a factory asks for it only when it needs the time.
    assert _default_clock() is sys.modules["twisted.internet.reactor"]


# Lives


def test_a_session_factory_lives_as_long_as_the_ports_it_is_on():
    sessions = Sessions()
    factory = ServerFactory(Word(), sessions, clock=Clock())

    factory.doStart()
    factory.doStart()
    assert sessions.life == ["started"]
    factory.doStop()
    assert sessions.life == ["started"]
    factory.doStop()

    assert sessions.life == ["started", "stopped"]


def test_every_session_factory_is_started_and_stopped_once():
    chat, echo = Sessions(), Sessions()
    factory = ServerFactory(Word(), {"chat": chat, "talk": chat, "echo": echo}, clock=Clock())

    factory.doStart()
    factory.doStop()

    assert chat.life == echo.life == ["started", "stopped"]


def test_a_factory_without_sessions_starts_and_stops():
    factory = ServerFactory(Word(), clock=Clock())

    factory.doStart()
    assert factory.terms.deadlines.busy
    factory.doStop()

    assert not factory.terms.deadlines.busy


def test_a_listening_factory_keeps_its_timer_and_one_that_has_stopped_leaves_none():
    server = Server()
    server.factory.doStart()
    connection = server.connect()

    connection.lose()
    assert len(server.clock.getDelayedCalls()) == 1
    server.factory.doStop()

    assert server.left_behind == []


def test_a_connection_may_outlive_its_port():
    server = Server()
    server.factory.doStart()
    connection = server.connect()

    server.factory.doStop()
    assert len(server.clock.getDelayedCalls()) == 1
    connection.send(b"yes\n")
    connection.finish()

    assert server.endings == [("accepted", "closing")]
    assert server.left_behind == []


def test_a_session_factory_that_twisted_made_will_do():
    sessions = Factory.forProtocol(lambda: None)
    factory = ServerFactory(Word(), sessions, clock=Clock())

    factory.doStart()
    assert sessions.numPorts == 1
    factory.doStop()

    assert sessions.numPorts == 0


def test_a_shut_down_that_is_cut_short_aborts_who_is_still_there():
    server = Server(session=Sessions())
    rejected, chatting = server.connect(), server.connect()
    rejected.send(b"no\n")
    chatting.send(b"yes\n")
    server.factory.shut_down()

    server.factory.cut_short()

    assert [each.goodbye for each in (rejected, chatting)] == ["aborted", "aborted"]
    rejected.finish()
    chatting.finish()
    assert server.left_behind == []


def test_shutting_down_ends_every_connection_and_fires_with_the_last():
    sessions = Sessions()
    server = Server(session=sessions)
    pending, rejected, chatting = (server.connect() for _ in range(3))
    rejected.send(b"no\n")
    chatting.send(b"yes\n")
    gone = []

    server.factory.shut_down().addCallback(gone.append)
    assert [each.goodbye for each in (pending, rejected, chatting)] == [
        "closed",
        "half-closed",
        "closed",
    ]
    pending.finish()
    chatting.finish()
    assert gone == []
    server.clock.advance(5.1)
    rejected.finish()

    assert gone == [None]
    assert server.endings == [
        ("shutdown", "handshake"),
        ("shutdown", "session"),
        ("rejected", "closing"),
    ]
    assert server.left_behind == []


# Without observers


def broken(observers=()):
    async def breaks(peer):
        await peer.receive_exactly(1)
        raise ZeroDivisionError("oops")

    return Connection(ServerFactory(runs(breaks), observers=observers, clock=Clock()))


def test_without_observers_a_handshake_that_breaks_is_logged(logged):
    connection = broken()

    connection.send(b"!")
    connection.finish()

    [line] = logged.take()
    assert line.startswith(f"{broken.__qualname__}.<locals>.breaks raised ZeroDivisionError: oops")
    assert line.endswith("ZeroDivisionError('oops')")


def test_without_observers_nonsense_is_logged(logged):
    async def nonsense(peer):
        return None

    connection = Connection(ServerFactory(runs(nonsense), clock=Clock()))
    connection.finish()

    [line] = logged.take()
    name = f"{nonsense.__qualname__}"
    words = f"{name} returned None, expected Accept or Reject"
    assert line == f"{words}: HandshakeFailed({words!r})"


def test_with_observers_nothing_is_logged():
    events = []

    connection = broken([events.append])
    connection.send(b"!")
    connection.finish()

    assert [type(each).__name__ for each in events] == [
        "ConnectionOpened",
        "HandshakeEnded",
        "ConnectionEnded",
    ]


def test_a_peer_that_is_turned_away_is_not_logged():
    server = ServerFactory(Word(), clock=Clock())
    connection = Connection(server)

    connection.send(b"no\n")
    connection.send_eof()
    connection.finish()


def test_a_session_factory_that_breaks_is_logged_with_its_traceback(logged):
    class Broken(Sessions):
        def buildProtocol(self, addr):
            raise ZeroDivisionError("oops")

    connection = Connection(ServerFactory(Word(), Broken(), clock=Clock()))
    connection.send(b"yes\n")
    connection.finish()

    assert logged.take() == [
        "the session's factory raised ZeroDivisionError('oops'): ZeroDivisionError('oops')"
    ]


def test_an_entrance_has_no_side_of_its_own():
    assert (EntranceFactory.side_name, EntranceFactory.noisy) == ("", False)


def test_many_pending_connections_are_one_reactor_call():
    server = Server()
    connections = [server.connect() for _ in range(2000)]

    assert len(server.clock.getDelayedCalls()) == 1
    server.clock.advance(5)
    for each in connections:
        each.finish()

    assert server.endings == [("timeout", "handshake")] * 2000
    assert server.left_behind == []
