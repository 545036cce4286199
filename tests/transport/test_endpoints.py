import os
import socket

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred

from sockproto.admission.networks import Networks
from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.transport import endpoints
from sockproto.transport.endpoints import DEFAULT_BACKLOG, listen
from sockproto.transport.listener import Listener
from sockproto.transport.proxy import ProxyPolicy
from sockproto.transport.server import ServerFactory

from .crank import Visitor, cranked
from .kit import Server, Sessions, Word, certificate
from .test_listener import TlsVisitor, pem


@pytest.fixture
def crank():
    with cranked() as crank:
        yield crank


@pytest.fixture
def server(crank):
    return Server(clock=crank)


def what_is_wrong_with(crank, server, description):
    with pytest.raises(ConfigurationError) as caught:
        listen(crank, description, server.factory)
    return str(caught.value)


def test_only_a_factory_with_a_handshake_listens(crank):
    with pytest.raises(TypeError) as caught:
        listen(crank, "tcp:0:interface=127.0.0.1", Word())
    expected = "listen() takes a ServerFactory(handshake, session), got a Word"
    assert str(caught.value) == expected


def backlog_of(listening):
    """How many clients the kernel lets wait: tcpi_sacked of a listening socket, tcp(7)."""
    return int.from_bytes(
        listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)[28:], "little"
    )


def most():
    with open("/proc/sys/net/core/somaxconn") as file:
        return int(file.read())


# At a door of our own


@pytest.mark.parametrize(
    ("description", "backlog"),
    [
        ("tcp:0:interface=127.0.0.1", DEFAULT_BACKLOG),
        ("tcp:0:interface=127.0.0.1:backlog=7", 7),
    ],
)
def test_a_string_of_ours_opens_a_door_of_ours(crank, server, description, backlog):
    port = listen(crank, description, server.factory)

    assert isinstance(port, Listener)
    assert backlog_of(port._door.socket) == min(backlog, most())
    visitor = Visitor(crank, ("127.0.0.1", port.address.port))
    visitor.send(b"yes\n")
    assert visitor.receive_all() == (b"OK\n", "eof")
    port.stopListening()
    assert server.left_behind == []


def test_a_unix_string_opens_its_path(crank, server, tmp_path):
    port = listen(crank, f"unix:{tmp_path}/door", server.factory, backlog=5)
    visitor = Visitor(crank, f"{tmp_path}/door")
    visitor.send(b"no\n")
    visitor.send_eof()

    assert port.address == Address("unix", path=f"{tmp_path}/door")
    assert visitor.receive_all() == (b"NO\n", "eof")
    port.stopListening()
    assert os.listdir(tmp_path) == []


def test_a_tls_string_speaks_tls(crank, server, tmp_path):
    place = pem(tmp_path)
    port = listen(crank, f"tls:0:interface=127.0.0.1:cert={place}:alpn=h2", server.factory)
    client = TlsVisitor(Visitor(crank, ("127.0.0.1", port.address.port)))
    client.send(b"yes\n")

    assert client.receive() == b"OK\n"
    client.visitor.close()
    crank.until(lambda: not server.live)
    port.stopListening()


def test_a_door_whose_certificate_cannot_be_used_is_not_opened(crank, server, tmp_path):
    said = what_is_wrong_with(crank, server, f"tls:0:cert={tmp_path}/none.pem")

    assert said == (
        f"cannot listen on tls:0:cert={tmp_path}/none.pem: cert={tmp_path}/none.pem cannot be "
        "read: no such file or directory; name a file that exists"
    )


def test_a_door_that_its_factory_does_not_want_is_closed_again(crank, tmp_path):
    class Fails(Sessions):
        def startFactory(self):
            raise ValueError("not today")

    server = Server(Word(), Fails(), clock=crank)
    said = what_is_wrong_with(crank, server, f"unix:{tmp_path}/door")

    assert said.startswith(f"cannot listen on unix:{tmp_path}/door: not today")
    assert os.listdir(tmp_path) == []
    server.factory.terms.deadlines.busy = False


# Where Twisted listens


# Twisted gives OpenSSL what its newest binding would rather have in another form.
deprecated = pytest.mark.filterwarnings("ignore:Passing :DeprecationWarning")


@deprecated
def test_any_other_string_is_twisteds(crank, server, tmp_path):
    place = pem(tmp_path)
    port = listen(crank, f"ssl:0:{place}:{place}:interface=127.0.0.1", server.factory)
    assert not isinstance(port, Listener)

    client = TlsVisitor(Visitor(crank, ("127.0.0.1", port.getHost().port)))
    client.send(b"yes\n")

    assert client.receive() == b"OK\n"
    client.visitor.close()
    crank.until(lambda: not server.live)
    port.stopListening()


@deprecated
@pytest.mark.parametrize(
    ("description", "backlog"),
    [
        ("ssl:0:{0}:{0}", DEFAULT_BACKLOG),
        ("ssl:0:{0}:{0}:backlog=5", 5),
        ("ssl:port=0:privateKey={0}:certKey={0}:back\\log=5", 5),
        ("ssl:0:{0}:{0}:SSLv23_METHOD:127.0.0.1:5", 5),
        (
            "ssl:port=0:privateKey={0}:certKey={0}:extraCertChain={0}:sslmethod=SSLv23_METHOD:"
            "interface=127.0.0.1",
            DEFAULT_BACKLOG,
        ),
    ],
)
def test_twisted_is_given_a_backlog_unless_the_string_gives_one(
    crank, server, tmp_path, description, backlog
):
    port = listen(crank, description.format(pem(tmp_path)), server.factory)

    assert backlog_of(port.socket) == min(backlog, most())
    port.stopListening()


def plugged_in(monkeypatch, found):
    """An endpoint plug-in that listens somewhere else."""

    class Endpoint:
        def listen(self, factory):
            return found

    monkeypatch.setattr(endpoints, "serverFromString", lambda reactor, text: Endpoint())


def test_one_that_does_not_open_at_once_does_not_open_later(crank, server, monkeypatch):
    cancelled = []
    plugged_in(monkeypatch, Deferred(cancelled.append))

    said = what_is_wrong_with(crank, server, "slow:1")

    assert said == "cannot listen on slow:1: it does not open at once"
    assert len(cancelled) == 1


def test_one_that_nobody_could_connect_to_is_refused(crank, server, monkeypatch):
    opened = Deferred()
    opened.callback(object())
    plugged_in(monkeypatch, opened)

    said = what_is_wrong_with(crank, server, "stdio:")

    assert said == "cannot listen on stdio:: nobody could connect to that"


# What is wrong


def test_a_port_that_is_taken_is_said_to_be(crank, server, tmp_path):
    place = pem(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"{other.getsockname()[1]}"
        for description in (
            f"tcp:{where}:interface=127.0.0.1",
            f"ssl:{where}:{place}:{place}:interface=127.0.0.1",
        ):
            assert what_is_wrong_with(crank, server, description) == (
                f"cannot listen on {description}: address already in use; stop whoever listens "
                "there, or choose another address"
            )


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (
            "tcp:http",
            "its port 'http' is not a whole number from 0 to 65535 "
            "(an endpoint is written like tcp:8001:interface=127.0.0.1)",
        ),
        (
            "nonsense:1",
            "Unknown endpoint type: 'nonsense' "
            "(an endpoint is written like tcp:8001:interface=127.0.0.1)",
        ),
        ("ssl:1:/none.pem", "no such file or directory /none.pem"),
        ("ssl:1:colour=red", None),
    ],
)
def test_a_string_that_makes_no_sense_is_explained(crank, server, description, words):
    said = what_is_wrong_with(crank, server, description)

    assert "\n" not in said
    assert said.startswith(f"cannot listen on {description}: ")
    if words is not None:
        assert said == f"cannot listen on {description}: {words}"
    else:
        assert "_parseSSL" not in said
        assert said.endswith("(an endpoint is written like tcp:8001:interface=127.0.0.1)")


def test_a_key_that_cannot_be_used_is_explained(crank, server, tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")
    cert = tmp_path / "cert.pem"
    cert.write_bytes(certificate()[0].public_bytes(Encoding.PEM))
    description = f"ssl:0:{key}:{cert}"

    said = what_is_wrong_with(crank, server, description)

    assert said.startswith(
        f"cannot listen on {description}: its key and certificate cannot be used: "
    )
    assert "\n" not in said


def test_an_extra_that_is_missing_is_named(crank, server, monkeypatch):
    def needs_more(reactor, text):
        raise ImportError("No module named 'OpenSSL'")

    monkeypatch.setattr(endpoints, "serverFromString", needs_more)

    assert what_is_wrong_with(crank, server, "more:1") == (
        "cannot listen on more:1: No module named 'OpenSSL'; "
        "install it with: pip install 'sockproto[tls]'"
    )


@pytest.mark.parametrize("error", [OSError("out of luck"), RuntimeError()])
def test_an_error_without_a_number_is_shown_all_the_same(crank, server, monkeypatch, error):
    def fails(reactor, text):
        raise error

    monkeypatch.setattr(endpoints, "serverFromString", fails)

    said = what_is_wrong_with(crank, server, "odd:1")
    assert said.startswith(
        "cannot listen on odd:1: " + ("out of luck" if str(error) else "RuntimeError (an")
    )


def test_a_proxy_header_needs_a_door_of_our_own(crank):
    factory = ServerFactory(
        Word(), clock=crank, proxy=ProxyPolicy("v1", Networks.parse("127.0.0.0/8"))
    )

    with pytest.raises(ConfigurationError) as caught:
        listen(crank, "ssl:0:x:y", factory)

    assert str(caught.value) == (
        "cannot listen on ssl:0:x:y: a PROXY header is read at a door of our own; "
        "use tcp:, unix: or tls:…:cert=PATH"
    )
