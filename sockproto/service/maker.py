"""The service that ``twistd sockserver`` and ``twist sockserver`` run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from sockproto._version import __version__
from sockproto.core.errors import ConfigurationError
from sockproto.service.listeners import client_string, kind_of, listen, shown
from sockproto.service.logs import ConnectionLog, escaped
from sockproto.service.monotonic import follow_monotonic_time
from sockproto.service.options import Options
from sockproto.transport.server import ServerFactory

_log = Logger()


class SockServer(Service):
    """
    Ports that are open, and what they let in.

    Args:
        factory: Serves the connections.
        ports: Where they come from; listening already.
        try_it: The command with which to try it, or empty.
        warnings: Said once, when the service starts.
    """

    def __init__(
        self,
        factory: ServerFactory,
        ports: Sequence[IListeningPort],
        try_it: str = "",
        warnings: Sequence[str] = (),
    ) -> None:
        self.factory = factory
        self.ports = list(ports)
        self._try_it = try_it
        self._warnings = list(warnings)

    def startService(self) -> None:
        """Say what listens where, and how to try it."""
        super().startService()
        places = " and ".join(shown(port) for port in self.ports)
        try_it = f"; try: {self._try_it}" if self._try_it else ""
        said = f"sockproto {__version__} listens on {places}{try_it}"
        _log.info("{line}", line=escaped(said))
        for line in self._warnings:
            _log.warn("{line}", line=escaped(line))

    def stopService(self) -> Deferred[Any]:
        """Close the ports, and end every connection within the close timeout."""
        super().stopService()
        ports, self.ports = self.ports, []
        closed = DeferredList([maybeDeferred(port.stopListening) for port in ports])
        return closed.addCallback(lambda _: self.factory.shut_down())


def makeService(options: Options, reactor: Any = None) -> SockServer:
    """
    Make the service; its sockets are bound when this returns.

    Args:
        options: What the operator wants.
        reactor: Twisted's reactor; unless given, the installed one, on monotonic time.

    Raises:
        SystemExit: With one line, if one of them cannot be.
    """
    if reactor is None:
        from twisted.internet import reactor

        follow_monotonic_time(reactor)
    factory = ServerFactory(
        options.handshake,
        options.session,
        limits=options.limits,
        observers=[ConnectionLog(Logger("sockproto"))],
        clock=reactor,
    )
    ports: list[IListeningPort] = []
    for description in options.listen:
        try:
            ports.append(listen(reactor, description, factory, options.backlog))
        except ConfigurationError as error:
            for port in ports:
                port.stopListening()
            raise SystemExit(f"sockserver: {error}") from error
    try_it = ""
    if kind_of(options.listen[0]) in ("tcp", "tcp6", "unix"):
        where = shlex.quote(client_string(ports[0]))
        try_it = f"sockproto connect {where} {options.try_it}"
    return SockServer(factory, ports, try_it, options.warnings)
