"""
Listen where an endpoint string says: at a door of our own where we can, else as Twisted does.

Everything is opened at once and nothing is deferred, so that a mistake is an exception in the hand
of whoever made it: one sentence with the string, the reason, and what to do.
"""

from __future__ import annotations

import errno
import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.python.failure import Failure

from sockproto.core.errors import ConfigurationError
from sockproto.signatures import cut, unquote
from sockproto.transport.descriptions import Description, TlsFiles, describe
from sockproto.transport.listener import Listener
from sockproto.transport.reasons import in_one_line, is_openssls
from sockproto.transport.server import ServerFactory

DEFAULT_BACKLOG = 4096
"""How many clients the kernel keeps waiting, if it may (``net.core.somaxconn``, listen(2))."""


def listen(
    reactor: Any, description: str, factory: ServerFactory, *, backlog: int = DEFAULT_BACKLOG
) -> IListeningPort:
    """
    Listen where an endpoint string says.

    ``tcp:``, ``tcp6:``, ``unix:``, ``systemd:``, ``fd:`` and ``tls:…:cert=…`` are opened by our own
    :class:`~sockproto.transport.listener.Listener`; see
    :mod:`sockproto.transport.descriptions` for what they take. Any other string is Twisted's, or an
    endpoint plug-in's. The answers are the same, byte for byte.

    Args:
        reactor: Twisted's reactor.
        description: For example ``tcp:8001:interface=127.0.0.1``, ``unix:/run/door``.
        factory: What serves the connections.
        backlog: How many clients the kernel may keep waiting, unless the string says it.

    Raises:
        ConfigurationError: If that is not possible: one sentence with the string and the reason.
        TypeError: If ``factory`` is another one: to a session the handshake comes first.
    """
    if not isinstance(factory, ServerFactory):
        given = type(factory).__name__
        raise TypeError(f"listen() takes a ServerFactory(handshake, session), got a {given}")
    try:
        ours = describe(description)
        if ours is not None:
            return _open(reactor, ours, factory, backlog)
        if factory.terms.proxy is not None:
            raise ConfigurationError(
                "a PROXY header is read at a door of our own; use tcp:, unix: or tls:…:cert=PATH"
            )
        endpoint = serverFromString(reactor, _with_backlog(description, backlog))
        return _port_of(endpoint.listen(factory))
    except Exception as error:
        raise ConfigurationError(f"cannot listen on {description}: {_reason(error)}") from error


def _open(reactor: Any, ours: Description, factory: ServerFactory, backlog: int) -> Listener:
    # First the certificates: a door that nobody could come through is not opened.
    tls = None if ours.tls is None else _certificates(ours.tls, factory)
    door = ours.open(backlog)
    try:
        port = Listener(reactor, door, factory, tls)
        port.startListening()
    except BaseException:
        door.close()
        raise
    return port


def _certificates(files: TlsFiles, factory: ServerFactory) -> Any:
    from sockproto.transport.tls import ServerTls

    return ServerTls(
        files.cert,
        files.key,
        client_ca=files.client_ca,
        verify=files.verify,
        alpn=files.alpn,
        clock=factory.terms.clock,
    )


def _port_of(listening: Deferred[IListeningPort]) -> IListeningPort:
    found: list[Any] = []
    listening.addBoth(found.append)
    if not found:
        # Nor later, when nobody would know of it.
        listening.cancel()
        raise ConfigurationError("it does not open at once")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    port: IListeningPort = found[0]
    if not IListeningPort.providedBy(port):
        raise ConfigurationError("nobody could connect to that")
    return port


def _with_backlog(description: str, backlog: int) -> str:
    """Twisted's own default keeps 50 waiting; a burst of 300 clients is not over for a second."""
    pieces = []
    rest: str | None = description
    while rest is not None:
        piece, rest = cut(rest, ":")
        pieces.append(piece)
    parts = [cut(piece, "=") for piece in pieces]
    given = any(unquote(name) == "backlog" for name, _ in parts)
    # In ssl:PORT:KEY:CERT:METHOD:INTERFACE:BACKLOG it is the seventh without a name.
    unnamed = sum(value is None for _, value in parts)
    if pieces[0] != "ssl" or given or unnamed > 6:
        return description
    return f"{description}:backlog={backlog}"


def _reason(error: BaseException) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, ConfigurationError):
        return str(error)
    if isinstance(error, ImportError):
        return f"{error}; install it with: pip install 'sockproto[tls]'"
    if isinstance(error, OSError):
        said = (error.strerror or str(error)).lower()
        if "/" in str(error.filename):
            return f"{said} {error.filename}"
        in_use = "; stop whoever listens there, or choose another address"
        return said + (in_use if error.errno == errno.EADDRINUSE else "")
    said = in_one_line(error)
    if is_openssls(error):
        return f"its key and certificate cannot be used: {said}"
    # The names of Twisted's functions say nothing to an operator.
    said = re.sub(r"^\w+\(\) ", "", said)
    return f"{said} (an endpoint is written like tcp:8001:interface=127.0.0.1)"
