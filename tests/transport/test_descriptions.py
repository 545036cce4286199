import os
import socket
from pathlib import Path

import pytest
from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.testing import MemoryReactorClock

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.transport.descriptions import (
    DATAGRAMS,
    Description,
    TlsFiles,
    client_string,
    describe,
    is_for_datagrams,
    opens_for_datagrams,
    refuse_long_path,
)


def what_is_wrong_with(text):
    with pytest.raises(ConfigurationError) as caught:
        describe(text)
    return str(caught.value)


# What is read


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tcp:8001", {"port": 8001}),
        ("TCP:8001", {"port": 8001}),
        ("tcp:port=8001", {"port": 8001}),
        ("tcp:0:127.0.0.1", {"interface": "127.0.0.1"}),
        ("tcp:80:localhost:5", {"port": 80, "interface": "localhost", "backlog": 5}),
        ("tcp:80:interface=\\:\\:1:backlog=5", {"port": 80, "interface": "::1", "backlog": 5}),
        ("tcp:interface=10.0.0.1:65535", {"port": 65535, "interface": "10.0.0.1"}),
    ],
)
def test_a_tcp_string_is_read_as_twisted_reads_it(text, values):
    assert describe(text) == Description(kind="tcp", **values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tcp6:80", {"port": 80}),
        ("tcp6:80:5:\\:\\:1", {"port": 80, "backlog": 5, "interface": "::1"}),
        ("tcp6:80:dual=1", {"port": 80, "dual": True}),
        ("tcp6:80:dual=0", {"port": 80}),
    ],
)
def test_a_tcp6_string_has_an_order_of_its_own_and_may_be_dual(text, values):
    assert describe(text) == Description(kind="tcp6", **values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("unix:/run/door", {"address": "/run/door"}),
        ("unix:address=door", {"address": "door"}),
        ("unix:/run/door:660:5:0", {"address": "/run/door", "mode": 0o660, "backlog": 5}),
        ("unix:door:mode=0666:lockfile=1", {"address": "door", "mode": 0o666}),
        ("unix:a\\:b\\=c\\\\d", {"address": "a:b=c\\d"}),
        ("unix:door:replace=1", {"address": "door", "replace": True}),
        ("unix:@door", {"address": "@door"}),
        ("unix:\0door", {"address": "\0door"}),
    ],
)
def test_a_unix_string_names_a_file_or_an_abstract_name(text, values):
    assert describe(text) == Description(kind="unix", **values)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("systemd:domain=INET:index=0", {"domain": "INET", "index": 0}),
        ("systemd:INET6:1", {"domain": "INET6", "index": 1}),
        ("systemd:name=web", {"name": "web"}),
        ("systemd:domain=UNIX:name=web:backlog=5", {"domain": "UNIX", "name": "web", "backlog": 5}),
    ],
)
def test_a_systemd_string_says_which_one(text, values):
    assert describe(text) == Description(kind="systemd", **values)


def test_an_fd_string_is_a_number():
    assert describe("fd:3") == Description(kind="fd", fileno=3)
    assert describe("fd:0:5") == Description(kind="fd", backlog=5)


def test_a_tls_string_is_plain_values():
    said = "tls:8443:127.0.0.1:5:cert=/c.pem:key=/k.pem:clientCA=/ca.pem:verify=optional:alpn=h2,a"

    assert describe(said) == Description(
        kind="tls",
        port=8443,
        interface="127.0.0.1",
        backlog=5,
        tls=TlsFiles(Path("/c.pem"), Path("/k.pem"), Path("/ca.pem"), "optional", ("h2", "a")),
    )


def test_a_tls_string_needs_its_certificate_alone():
    assert describe("tls:8443:cert=/c.pem").tls == TlsFiles(Path("/c.pem"))


def test_a_tls_string_that_says_who_vouches_for_clients_wants_them_vouched_for():
    assert describe("tls:8443:cert=/c:clientCA=/ca").tls.verify == "required"
    assert describe("tls:8443:cert=/c:clientCA=/ca:verify=none").tls.verify == "none"


def test_a_relative_path_of_a_tls_string_means_what_it_means_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert describe("tls:8443:cert=c.pem").tls.cert == tmp_path / "c.pem"


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("udp:8001", "udp", {"port": 8001}),
        ("udp:0:127.0.0.1", "udp", {"interface": "127.0.0.1"}),
        (r"udp:80:interface=\:\:1", "udp", {"port": 80, "interface": "::1"}),
        ("udp:80:dual=1", "udp", {"port": 80, "dual": True}),
        ("unixgram:/run/door", "unixgram", {"address": "/run/door"}),
        ("unixgram:@door", "unixgram", {"address": "@door"}),
        ("unixgram:door:660:replace=1", "unixgram", {"address": "door", "mode": 0o660}),
    ],
)
def test_a_string_for_datagrams_has_no_backlog(text, kind, values):
    if text.endswith("replace=1"):
        values = {**values, "replace": True}

    assert describe(text) == Description(kind=kind, **values)
    assert kind in DATAGRAMS


@pytest.mark.parametrize(
    ("text", "answer"),
    [("udp:8001", True), ("UDP:high", True), ("unixgram", True), ("unix:udp", False), ("", False)],
)
def test_a_string_for_datagrams_is_known_by_its_beginning(text, answer):
    assert is_for_datagrams(text) is answer


@pytest.fixture
def passed():
    """The descriptors of a listening socket and of one for datagrams, as they are passed on."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound,
    ):
        bound.bind(("127.0.0.1", 0))
        for each in (listening, bound):
            each.set_inheritable(True)
        yield listening.fileno(), bound.fileno()


def test_of_what_was_passed_to_us_the_socket_says_what_it_is_for(passed, monkeypatch):
    listening, bound = passed
    monkeypatch.setenv("LISTEN_FDS", str(max(passed) - 2))
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))

    for kind, first in (("fd:", 0), ("systemd:index=", 3)):
        assert not opens_for_datagrams(f"{kind}{listening - first}")
        assert opens_for_datagrams(f"{kind}{bound - first}")
    # They are still open.
    os.fstat(listening)
    os.fstat(bound)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("udp:0", True),
        ("unixgram:high:low", True),
        ("tcp:0", False),
        ("tcp:high", False),
        ("stdio:", False),
        ("fd:987654", False),
        ("systemd:index=0", False),
    ],
)
def test_what_cannot_be_opened_is_for_datagrams_if_it_says_so(text, answer):
    assert opens_for_datagrams(text) is answer


def test_a_file_is_for_no_datagrams(tmp_path):
    with open(tmp_path / "file", "w") as file:
        assert not opens_for_datagrams(f"fd:{file.fileno()}")
        file.write("still open")


@pytest.mark.parametrize(
    "text",
    ["", "ssl:443:privateKey=k.pem", "tls:/etc/certs:443", "tls", "stdio:", "haproxy:tcp:1", "a:b"],
)
def test_what_is_somebody_elses_is_left_to_them(text):
    assert describe(text) is None


# What is wrong

TCP = " (an endpoint is written like tcp:8001:interface=127.0.0.1)"
TCP6 = r" (an endpoint is written like tcp6:8001:interface=\:\:1)"
UNIX = " (an endpoint is written like unix:/run/door:mode=660)"
SYSTEMD = " (an endpoint is written like systemd:domain=INET:index=0)"
UDP = " (an endpoint is written like udp:8001:interface=127.0.0.1)"
UNIXGRAM = " (an endpoint is written like unixgram:/run/door:mode=660)"
FD = " (an endpoint is written like fd:3)"
TLS = " (an endpoint is written like tls:8443:cert=door.pem:key=door.key)"
PORT = "is not a whole number from 0 to 65535"
COUNT = "is not a whole number from 0 to 2147483647"
BACKLOG = "is not a whole number from 1 to 2147483647"


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("tcp", f"its port is missing{TCP}"),
        ("tcp:", f"its port '' {PORT}{TCP}"),
        ("tcp:high", f"its port 'high' {PORT}{TCP}"),
        ("tcp:-1", f"its port '-1' {PORT}{TCP}"),
        ("tcp:65536", f"its port '65536' {PORT}{TCP}"),
        ("tcp:80:backlog=0", f"its backlog '0' {BACKLOG}{TCP}"),
        ("tcp:80:a:5:6", f"tcp has at most 3 parts without a name{TCP}"),
        (
            "tcp:80:interface=",
            f"its interface is empty; name an address, or leave it out for all{TCP}",
        ),
        ("tcp:80:host=a", f"tcp has no 'host', but port, interface, backlog{TCP}"),
        ("tcp:80:dual=1", f"tcp has no 'dual', but port, interface, backlog{TCP}"),
        ("tcp:80:port=81", f"its port is given twice{TCP}"),
        ("tcp:80\\", f"it ends in a backslash that quotes nothing{TCP}"),
        ("tcp6:80:dual=yes", f"its dual 'yes' is not 0 or 1{TCP6}"),
        ("unix", f"its address is missing{UNIX}"),
        ("unix:door:mode=888", f"its mode '888' is not an octal number from 0 to 777{UNIX}"),
        ("unix:door:mode=1777", f"its mode '1777' is not an octal number from 0 to 777{UNIX}"),
        ("systemd:INET", f"either its index or its name has to be given{SYSTEMD}"),
        ("systemd:index=0:name=a", f"either its index or its name has to be given{SYSTEMD}"),
        ("systemd:inet:0", f"its domain 'inet' is not INET, INET6 or UNIX{SYSTEMD}"),
        ("systemd:index=-1", f"its index '-1' {COUNT}{SYSTEMD}"),
        ("fd", f"its fileno is missing{FD}"),
        ("fd:-1", f"its fileno '-1' {COUNT}{FD}"),
        ("udp", f"its port is missing{UDP}"),
        ("udp:80:backlog=5", f"udp has no 'backlog', but port, interface, dual{UDP}"),
        ("unixgram", f"its address is missing{UNIXGRAM}"),
        ("tls:cert=c", f"its port is missing{TLS}"),
        ("tls:1:cert=", f"its cert '' is not a path{TLS}"),
        ("tls:1:cert=c:verify=on", f"its verify 'on' is not none, optional or required{TLS}"),
        (
            "tls:1:cert=c:alpn=a,,b",
            f"its alpn 'a,,b' is not a list of names such as h2,http/1.1{TLS}",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(text, trouble):
    assert what_is_wrong_with(text) == trouble


@pytest.mark.parametrize("name", ["", "ä", 256 * "a"])
def test_a_protocol_on_offer_has_a_name_that_tls_can_carry(name):
    assert f"its alpn {name!r} is not a list" in what_is_wrong_with(f"tls:1:cert=c:alpn={name}")


# What is opened


def open_and_close(text, backlog=5):
    door = describe(text).open(backlog)
    door.close()
    return door


def test_a_tcp_door_opens():
    assert open_and_close("tcp:0:127.0.0.1").address.host == "127.0.0.1"
    assert open_and_close("tls:0:127.0.0.1:cert=c").address.host == "127.0.0.1"
    assert open_and_close("tcp6:0:dual=1").address.host == "::"


@pytest.mark.ipv6
def test_a_door_to_an_ipv6_address_opens():
    assert open_and_close("tcp6:0:interface=\\:\\:1").address.host == "::1"
    door = describe(r"udp:0:interface=\:\:1").open_for_datagrams()
    assert door.address.host == "::1"
    door.close()


def test_a_unix_door_opens(tmp_path):
    path = tmp_path / "door"

    door = describe(f"unix:{path}:mode=620:backlog=7").open(5)

    assert path.stat().st_mode & 0o777 == 0o620
    assert door.address == Address("unix", path=str(path))
    door.close()


def test_a_door_that_cannot_open_says_why(tmp_path):
    for text, trouble in {
        f"unix:{tmp_path}/no/door": "no such file or directory; create its directory first",
        "systemd:index=0": "no such socket was passed to us; is LISTEN_FDS set, as "
        "sd_listen_fds(3) has it?",
        "fd:987654": "descriptor 987654 is not open; whoever starts this program has to pass a "
        "listening socket there",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            describe(text).open(5)
        assert str(caught.value) == trouble


def test_a_door_for_datagrams_opens(tmp_path):
    path = tmp_path / "door"
    for text, host in (
        ("udp:0:127.0.0.1", "127.0.0.1"),
        ("udp:0:dual=1", "::"),
        (f"unixgram:{path}:mode=620", ""),
    ):
        door = describe(text).open_for_datagrams()
        assert door.address.host == host
        assert door.socket.type == socket.SOCK_DGRAM
        if not host:
            assert path.stat().st_mode & 0o777 == 0o620
        door.close()


def test_a_door_is_for_connections_or_for_datagrams():
    for text, trouble in {
        "udp:0": "no connection comes over datagrams; use listen_datagrams()",
        "unixgram:door": "no connection comes over datagrams; use listen_datagrams()",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            describe(text).open(5)
        assert str(caught.value) == trouble
    for text, trouble in {
        "tcp:0": "tcp is for connections; write udp:8001:interface=127.0.0.1 or "
        "unixgram:/run/door:mode=660",
        "systemd:index=0": "no such socket was passed to us; is LISTEN_FDS set, as "
        "sd_listen_fds(3) has it?",
        "fd:987654": "descriptor 987654 is not open; whoever starts this program has to pass a "
        "datagram socket there",
        "fd:3:backlog=5": "a datagram socket accepts nobody, and so has no backlog; leave it out",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            describe(text).open_for_datagrams()
        assert str(caught.value) == trouble


# How a client gets there


@pytest.mark.parametrize(
    ("address", "string"),
    [
        (Address("inet", "192.0.2.1", 80), "tcp:192.0.2.1:80"),
        (Address("inet", "0.0.0.0", 80), "tcp:127.0.0.1:80"),
        (Address("inet6", "::", 80), "tcp:\\:\\:1:80"),
        (Address("inet6", "fe80::1%lo", 80), "tcp:fe80\\:\\:1%lo:80"),
        (Address("unix", path="/run/a:b\\c"), "unix:/run/a\\:b\\\\c"),
        (Address("unix", path="\0door"), "unix:\0door"),
    ],
)
def test_a_client_is_told_where_to_go(address, string):
    assert client_string(address) == string


@pytest.mark.parametrize(
    ("address", "string"),
    [
        (Address("inet", "0.0.0.0", 80), "udp:127.0.0.1:80"),
        (Address("inet6", "::", 80), "udp:\\:\\:1:80"),
        (Address("unix", path="/run/a:b"), "unixgram:/run/a\\:b"),
        (Address("unix", path="\0door"), "unixgram:@door"),
    ],
)
def test_a_client_is_told_where_to_send_datagrams(address, string):
    assert client_string(address, datagrams=True) == string


def test_a_client_is_told_to_speak_tls():
    assert client_string(Address("inet", "0.0.0.0", 443), tls=True) == "tls:127.0.0.1:443"


@pytest.mark.parametrize("path", ["/run/door", "a:b", "a\\b", "a\\:b", "\0door"])
def test_twisted_reads_what_a_client_is_told(path):
    string = client_string(Address("unix", path=path))

    assert string == f"unix:{quoteStringArgument(path)}"
    reactor = MemoryReactorClock()
    clientFromString(reactor, string).connect(None)
    assert reactor.unixClients[0][0] == path


@pytest.mark.parametrize("text", [f"unix:{'x' * 120}", f"unix:path={'x' * 120}:timeout=3"])
def test_a_path_that_no_socket_can_have_is_refused_before_it_is_connected_to(text):
    with pytest.raises(ConfigurationError) as caught:
        refuse_long_path(text)
    assert "120" in str(caught.value)


@pytest.mark.parametrize("text", ["unix:/run/door", "unix:timeout=3", f"tcp:{'x' * 120}:80"])
def test_any_other_string_is_left_to_twisted(text):
    refuse_long_path(text)
