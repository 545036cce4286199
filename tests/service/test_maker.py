"""The service: what it says when it starts, whom it serves, and what it leaves when it stops."""

from __future__ import annotations

import os
import resource
import socket
import struct

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from sockproto import Address, Limits, ServerFactory, __version__
from sockproto.events import AcceptingPaused, CapReached, RefusalWaived
from sockproto.handshakes.welcome import Welcome
from sockproto.service import Options, makeService
from sockproto.service.maker import SockServer, _reached_at
from sockproto.transport.datagram import DatagramPort
from sockproto.transport.listener import Listener

STRANGER = Address.ip("203.0.113.9", 4711)


@implementer(IListeningPort)
class Port:
    """A port that is open until it is told to close, and then takes its time."""

    def __init__(self, address=None):
        self.address = address or IPv4Address("TCP", "127.0.0.1", 8001)
        self.closing = None

    def startListening(self):
        """It listens already."""

    def stopListening(self):
        self.closing = Deferred()
        return self.closing

    def getHost(self):
        return self.address


@pytest.fixture(autouse=True)
def operator(tmp_path, monkeypatch):
    """An operator in a folder of his own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def machine():
    return MemoryReactorClock()


@pytest.fixture
def make(machine):
    """Make services whose doors are real, and closed in the end; nobody comes through them."""
    made = []

    def make(*arguments, listen=("unix:door",)):
        options = [word for each in listen for word in ("--listen", each)]
        made.append(makeService(parse(*options, *arguments), machine))
        return made[-1]

    yield make
    for service in made:
        assert service.stopService().called
    assert machine.getReaders() == machine.getDelayedCalls() == []


@pytest.fixture
def clock():
    return Clock()


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


def connect(factory):
    """A client; gives the transport on our side of it."""
    transport = StringTransport()
    protocol = factory.buildProtocol(transport.getPeer())
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return transport


def lines(logged, namespace="sockproto.service.maker"):
    return [formatEvent(each) for each in logged if each["log_namespace"] == namespace]


# SockServer


def test_the_first_line_says_what_listens_where_and_what_to_type(clock):
    ports = [Port(), Port(UNIXAddress(b"/run/door"))]
    factory = ServerFactory(Welcome(), clock=clock)
    service = SockServer(factory, ports, "sockproto connect tcp:127.0.0.1:8001 --send 1")

    with capturedLogs() as logged:
        service.startService()

    assert lines(logged) == [
        f"sockproto {__version__} listens on 127.0.0.1:8001 and unix:/run/door; "
        "try: sockproto connect tcp:127.0.0.1:8001 --send 1"
    ]
    assert service.running


def test_where_there_is_nothing_to_type_it_says_nothing_of_it(clock):
    service = SockServer(ServerFactory(Welcome(), clock=clock), [Port()])

    with capturedLogs() as logged:
        service.startService()

    assert lines(logged) == [f"sockproto {__version__} listens on 127.0.0.1:8001"]


def test_what_the_operator_should_know_is_a_warning_each(clock):
    factory = ServerFactory(Welcome(), clock=clock)
    service = SockServer(factory, [Port()], warnings=["mind the gap", "mind\nthe door"])

    with capturedLogs() as logged:
        service.startService()

    warnings = [each for each in logged if each["log_level"] is LogLevel.warn]
    assert lines(warnings) == ["mind the gap", r"mind\nthe door"]


def test_the_name_of_a_socket_cannot_forge_a_line(clock):
    port = Port(UNIXAddress(b"/run/door\naccepted \x1b[2J"))
    service = SockServer(ServerFactory(Welcome(), clock=clock), [port])

    with capturedLogs() as logged:
        service.startService()

    assert lines(logged)[0].endswith(r"listens on unix:/run/door\naccepted \x1b[2J")


def test_a_stop_is_over_when_the_ports_are_closed_and_the_last_connection_is_gone(clock):
    first, second = ports = [Port(), Port()]
    factory = ServerFactory(Welcome(), limits=Limits(close_timeout=5), clock=clock)
    factory.doStart()
    service = SockServer(factory, ports)
    service.startService()
    client = connect(factory)
    stopped = []

    service.stopService().addCallback(stopped.append)
    first.closing.callback(None)
    assert not client.disconnecting
    second.closing.callback(None)
    assert client.disconnecting
    assert stopped == []
    client.protocol.connectionLost(Failure(ConnectionDone()))

    assert len(stopped) == 1
    assert not service.running
    factory.doStop()
    assert clock.getDelayedCalls() == []


def test_a_port_that_does_not_close_well_keeps_no_connection_alive(clock, logged_failures):
    port = Port()
    factory = ServerFactory(Welcome(), clock=clock)
    service = SockServer(factory, [port])
    service.startService()
    client = connect(factory)

    stopping = service.stopService()
    port.closing.errback(Failure(OSError("the disk is gone")))
    assert client.disconnecting
    client.protocol.connectionLost(Failure(ConnectionDone()))

    assert stopping.called
    assert len(logged_failures.take(OSError)) == 1


def test_a_second_stop_finds_nothing_to_do(clock):
    port = Port()
    service = SockServer(ServerFactory(Welcome(), clock=clock), [port])
    service.startService()
    service.stopService()
    port.closing.callback(None)

    assert service.stopService().called


# makeService


def backlog_of(port):
    """How many may wait at a port, as the kernel knows it: ``tcpi_sacked``, see ss(8)."""
    with socket.socket(fileno=os.dup(port._door.socket.fileno())) as listening:
        info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return struct.unpack_from("I", info, 28)[0]


def test_it_listens_on_every_endpoint_with_the_backlog(make, machine):
    first, second = "tcp:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1:backlog=7"

    service = make("--backlog", "64", listen=[first, second, "unix:door"])

    assert [backlog_of(port) for port in service.ports[:2]] == [64, 7]
    assert str(service.ports[2].address) == "unix:door"
    assert set(machine.getReaders()) == set(service.ports)


def test_it_serves_what_was_asked_for_and_leaves_a_line_for_each_connection(make, machine):
    service = make("--handshake", "welcome:2", "--idle-timeout", "500ms")

    with capturedLogs() as logged:
        served, silent = connect(service.factory), connect(service.factory)
        served.protocol.dataReceived(b"2")
        machine.pump([0.1] * 7)

    assert served.value() == b"welcome to server!"
    assert silent.value() == b""
    found = lines(logged, "sockproto")
    assert len(found) == 2
    assert found[0].startswith("accepted ")
    assert found[1].startswith("time out ")
    assert ": nothing heard for 0.5 s" in found[1]
    for each in (served, silent):
        each.protocol.connectionLost(Failure(ConnectionDone()))


def test_it_says_how_to_reach_the_first_endpoint(make):
    service = make(listen=["unix:a door", "tcp:0:interface=127.0.0.1"])

    with capturedLogs() as logged:
        service.startService()

    assert lines(logged)[0].endswith("; try: sockproto connect 'unix:a door' --send 1")


def test_behind_every_address_it_is_reached_on_loopback(make):
    service = make(listen=["tcp:0"])
    port = service.ports[0].address.port

    with capturedLogs() as logged:
        service.startService()

    expected = f"listens on 0.0.0.0:{port}; try: sockproto connect tcp:127.0.0.1:{port} --send 1"
    assert lines(logged)[0].endswith(expected)


def try_it(service):
    """What the first line says one should type; empty if it says nothing of the kind."""
    with capturedLogs() as logged:
        service.startService()
    return lines(logged)[0].partition("; try: ")[2]


def test_what_to_type_is_for_the_first_door_that_needs_no_more_than_its_address(make):
    service = make(listen=["unix:@sockproto-test-maker", "UNIX:door"])

    assert try_it(service) == "sockproto connect unix:door --send 1"


def test_if_every_door_needs_more_there_is_nothing_to_type(make):
    assert try_it(make(listen=["unix:@sockproto-test-maker"])) == ""


@pytest.mark.parametrize("description", ["tls:8001:cert=/etc/door.pem", "ssl:8001", "spy:8001"])
def test_what_a_client_would_trust_or_speak_is_not_guessed(description):
    assert _reached_at(description, Port()) is None


def test_somebody_who_is_no_proxy_is_not_told_to_try_it(make):
    assert try_it(make("--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1")) == ""


def test_behind_a_proxy_the_line_shows_the_client(make, machine):
    service = make("--proxy-protocol", "v1", "--proxy-allow-from", "192.168.1.1")

    with capturedLogs() as logged:
        client = connect(service.factory)
        client.protocol.dataReceived(b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 8001\r\n1")
        machine.advance(0)

    assert client.value() == b"welcome to server!"
    assert lines(logged, "sockproto")[0].startswith("accepted 203.0.113.9:5000 in ")
    client.protocol.connectionLost(Failure(ConnectionDone()))


# Admission.


def test_a_server_has_one_admission_that_is_on_and_lives_by_its_time(make, machine):
    service = make(listen=["unix:door", "unix:other"])
    admission = service.factory.terms.admission

    assert [port._factory for port in service.ports] == [service.factory] * 2
    assert [each.rule for each in admission.verdicts(STRANGER)] == [
        "max_connections",
        "penalties",
        "max_pending_per_source",
        "max_pending",
    ]
    ticket = admission.admit(STRANGER)
    ticket.settled("crashed")
    assert isinstance(admission.admit(STRANGER), str)
    machine.advance(91)
    assert not isinstance(admission.admit(STRANGER), str)


def test_datagrams_have_an_admission_of_their_own_without_penalties(make, machine):
    service = make(
        "--max-rate-per-source",
        "5/1s",
        "--udp-max-amplification",
        "18",
        listen=["udp:0:interface=127.0.0.1", "unixgram:door", "tcp:0:interface=127.0.0.1"],
    )

    datagrams, other, _ = service.ports
    assert str(other.address) == "unix:door"
    assert set(machine.getReaders()) == set(service.ports)
    admission = datagrams._terms.admission
    rules = [each.rule for each in admission.verdicts(STRANGER)]
    assert "penalties" not in rules
    assert "max_rate_per_source" in rules
    assert admission is not service.factory.terms.admission
    assert datagrams._answers._max_amplification == 18


def test_a_datagram_leaves_a_line_like_a_connection(make, machine):
    [port] = make(listen=["udp:0:interface=127.0.0.1"]).ports

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, capturedLogs() as logged:
        client.connect(("127.0.0.1", port.address.port))
        client.send(b"2")
        port.doRead()
        machine.advance(0)

    [line] = lines(logged, "sockproto")
    assert line.startswith("rejected 127.0.0.1:")


def test_it_says_how_to_reach_a_door_for_datagrams(make):
    service = make(listen=["unixgram:door"])

    assert try_it(service) == "sockproto connect unixgram:door --send 1"


def test_a_door_for_datagrams_is_reached_by_its_abstract_name(make):
    service = make(listen=["unixgram:@sockproto-test-maker"])

    assert try_it(service) == "sockproto connect unixgram:@sockproto-test-maker --send 1"


def test_a_socket_that_was_passed_to_us_is_served_as_what_it_is(make, machine):
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound,
    ):
        bound.bind(("127.0.0.1", 0))
        for each in (listening, bound):
            each.set_inheritable(True)
        place = bound.getsockname()
        service = make(listen=[f"fd:{bound.detach()}", f"fd:{listening.detach()}"])

    datagrams, connections = service.ports
    assert isinstance(datagrams, DatagramPort)
    assert isinstance(connections, Listener)
    assert set(machine.getReaders()) == set(service.ports)
    assert try_it(service) == f"sockproto connect udp:127.0.0.1:{place[1]} --send 1"


def warnings(service):
    with capturedLogs() as logged:
        service.startService()
    return lines([each for each in logged if each["log_level"] is LogLevel.warn])


def test_a_session_that_nothing_leads_to_is_warned_of(make):
    udp = "udp:0:interface=127.0.0.1"

    assert warnings(make("--session", "echo", listen=[udp, "unixgram:door"])) == [
        "a session is set, but none follows a datagram, and there is no endpoint for connections; "
        "leave --session out, or add one with --listen"
    ]
    assert warnings(make("--session", "echo", listen=[udp, "unix:other"])) == []
    assert warnings(make(listen=[udp])) == []


def test_no_proxy_speaks_for_a_datagram(make):
    with pytest.raises(SystemExit) as caught:
        make("--proxy-protocol", "v2", "--proxy-allow-from", "10.0.0.0/8", listen=["udp:0"])

    assert str(caught.value) == (
        "sockserver: cannot listen on udp:0: no PROXY header is read from datagrams; leave "
        "--proxy-protocol out, or serve them from another process"
    )


def test_half_of_the_descriptors_less_some_are_for_connections(make):
    admission = make().factory.terms.admission

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 64
    assert admission.verdicts(STRANGER)[0].figures == f"0 of {most} connections are taken"


def test_who_is_denied_is_refused_and_leaves_a_line(make, machine):
    service = make("--deny", "192.168.0.0/16")

    with capturedLogs() as logged:
        client = connect(service.factory)
        machine.advance(0)

    assert client.disconnecting
    [line] = lines(logged, "sockproto")
    assert line.startswith("refused 192.168.1.1:54321 in ")
    assert line.endswith(": allow, deny: allowed by a /0, denied by a /16")
    client.protocol.connectionLost(Failure(ConnectionDone()))


def test_in_a_dry_run_who_would_be_refused_is_served_and_told_of(make, machine):
    service = make("--deny", "192.168.0.0/16", "--dry-run", "--access-log", "off")
    service.startService()

    with capturedLogs() as logged:
        client = connect(service.factory)
        client.protocol.dataReceived(b"1")

    assert client.value() == b"welcome to server!"
    assert lines(logged, "sockproto") == [
        "waived 192.168.1.1:54321: allow, deny: allowed by a /0, denied by a /16"
    ]
    client.protocol.connectionLost(Failure(ConnectionDone()))


def test_more_connections_than_descriptors_are_warned_of(make):
    service = make("--max-connections", "2147483647")

    with capturedLogs() as logged:
        service.startService()

    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert lines(logged)[1] == (
        f"max-connections is 2147483647, but this process may have {descriptors} descriptors; "
        "raise the limit (ulimit -n, or LimitNOFILE= under systemd)"
    )


# The access log.


class Broken:
    async def serve(self, peer):
        raise ValueError("no key")


@pytest.mark.parametrize("where", ["off", "access.log"])
def test_if_the_lines_are_not_in_the_log_the_trouble_is(make, machine, where):
    service = make("--handshake", f"{__name__}:Broken", "--access-log", where)

    with capturedLogs() as logged:
        service.factory.terms.emit(AcceptingPaused(Address("unix"), OSError(24, "Too many")))
        client = connect(service.factory)
        machine.advance(0)

    paused, crash = logged
    assert paused["log_level"] is LogLevel.warn
    assert crash["log_level"] is LogLevel.error
    assert formatEvent(crash).startswith("crashed ")
    assert formatEvent(crash).isprintable()
    client.protocol.connectionLost(Failure(ConnectionDone()))


def test_a_crash_is_told_once(make, machine):
    service = make("--handshake", f"{__name__}:Broken")

    with capturedLogs() as logged:
        client = connect(service.factory)
        machine.advance(0)

    assert len(lines(logged, "sockproto")) == 1
    client.protocol.connectionLost(Failure(ConnectionDone()))


def test_without_an_access_log_no_event_is_made_of_what_goes_well(make):
    told = make("--access-log", "off").factory.terms.told

    assert [what for what, observers in told.items() if observers] == [
        AcceptingPaused,
        CapReached,
        RefusalWaived,
        "crashed",
    ]


def test_a_stop_writes_the_last_line_into_the_file(make, machine, tmp_path):
    service = make("--access-log", "access.log")
    service.startService()
    client = connect(service.factory)

    stopping = service.stopService()
    client.protocol.connectionLost(Failure(ConnectionDone()))

    assert stopping.called
    assert " shutdown " in (tmp_path / "access.log").read_text()
    assert machine.getDelayedCalls() == []


def test_an_access_log_that_cannot_be_written_ends_the_program_before_a_door_is_open(
    make, machine, tmp_path
):
    with pytest.raises(SystemExit) as caught:
        make("--access-log", "no/such/folder/log")

    assert str(caught.value) == (
        "sockserver: cannot write the access log no/such/folder/log: no such file or directory; "
        "name a file that can be written, - or off"
    )
    assert machine.getReaders() == []
    assert not (tmp_path / "door").exists()


def test_the_descriptor_limit_is_as_high_as_it_may_be(make):
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))

    make()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_warns_of_a_secret_on_the_command_line(make):
    service = make("--handshake", "passphrase:sesame")

    with capturedLogs() as logged:
        service.startService()

    said, warning = lines(logged)
    assert said.endswith(" --handshake passphrase:...")
    assert "stands on the command line" in warning
    assert "sesame" not in said + warning


@pytest.mark.parametrize("log", ["log", "off"])
def test_an_endpoint_that_cannot_be_opened_ends_the_program_and_closes_the_others(
    make, machine, tmp_path, log
):
    before = os.listdir("/dev/fd")
    with pytest.raises(SystemExit) as caught:
        make("--access-log", log, listen=["unix:door", "unix:no/such\nfolder/", "unix:other"])

    assert os.listdir("/dev/fd") == before
    said = str(caught.value)
    assert said.startswith(r"sockserver: cannot listen on unix:no/such\nfolder/: ")
    assert said.isprintable()
    assert machine.getReaders() == []
    assert not (tmp_path / "door").exists()
    assert not (tmp_path / "other").exists()


def test_unless_told_otherwise_it_takes_the_installed_reactor_and_monotonic_time(
    machine, monkeypatch
):
    import twisted.internet

    monkeypatch.setattr(twisted.internet, "reactor", machine)
    assert machine.seconds() == 0

    service = makeService(parse("--listen", "unix:door"))

    assert set(machine.getReaders()) == set(service.ports)
    # Not virtual any more: the time of day.
    assert machine.seconds() > 0
    service.stopService()
