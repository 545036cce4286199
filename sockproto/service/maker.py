"""The service that ``twistd sockserver`` and ``twist sockserver`` run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockproto._version import __version__
from sockproto.core.errors import ConfigurationError
from sockproto.service.accesslog import AccessLog, LogFile, TwistedLog
from sockproto.service.descriptors import raise_descriptor_limit
from sockproto.service.logs import NAMESPACE, TroubleLog, escaped
from sockproto.service.monotonic import follow_monotonic_time
from sockproto.service.options import Options
from sockproto.transport.descriptions import client_string, describe
from sockproto.transport.endpoints import listen
from sockproto.transport.facts import address_of
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
        access_log: What has to be written before we go, or None.
    """

    def __init__(
        self,
        factory: ServerFactory,
        ports: Sequence[IListeningPort],
        try_it: str = "",
        warnings: Sequence[str] = (),
        access_log: AccessLog | None = None,
    ) -> None:
        self.factory = factory
        self.ports = list(ports)
        self._try_it = try_it
        self._warnings = list(warnings)
        self._access_log = access_log

    def startService(self) -> None:
        """Say what listens where, and how to try it."""
        super().startService()
        places = " and ".join(str(address_of(port.getHost())) for port in self.ports)
        try_it = f"; try: {self._try_it}" if self._try_it else ""
        said = f"sockproto {__version__} listens on {places}{try_it}"
        _log.info("{line}", line=escaped(said))
        for line in self._warnings:
            _log.warn("{line}", line=escaped(line))

    def stopService(self) -> Deferred[Any]:
        """Close the ports, and end every connection within the close timeout."""
        super().stopService()
        ports, self.ports = self.ports, []
        closing = [maybeDeferred(port.stopListening).addErrback(_tell) for port in ports]
        closed = DeferredList(closing).addCallback(lambda _: self.factory.shut_down())
        return closed.addBoth(self._last_words)

    def _last_words(self, result: Any) -> Any:
        if self._access_log is not None:
            self._access_log.close()
        return result


def _tell(failure: Failure) -> None:
    """A port does not close. That must not keep the connections from their end."""
    _log.failure("cannot close a port", failure)


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
    raise_descriptor_limit()
    try:
        access_log = _access_log(options.access_log, reactor)
    except ConfigurationError as error:
        raise SystemExit(f"sockserver: {escaped(str(error))}") from error
    trouble = TroubleLog(Logger(NAMESPACE))
    factory = ServerFactory(
        options.handshake,
        options.session,
        limits=options.limits,
        observers=[trouble] if access_log is None else [access_log, trouble],
        clock=reactor,
        proxy=options.proxy,
    )
    ports: list[IListeningPort] = []
    for description in options.listen:
        try:
            ports.append(listen(reactor, description, factory, backlog=options.backlog))
        except ConfigurationError as error:
            for port in ports:
                port.stopListening()
            if access_log is not None:
                access_log.close()
            raise SystemExit(f"sockserver: {escaped(str(error))}") from error
    try_it = ""
    where = next(filter(None, map(_reached_at, options.listen, ports)), None)
    # Somebody who is no proxy would not be heard.
    if where is not None and options.proxy is None:
        try_it = f"sockproto connect {shlex.quote(where)} {options.try_it}"
    return SockServer(factory, ports, try_it, options.warnings, access_log)


def _access_log(where: str, reactor: Any) -> AccessLog | None:
    if where == "off":
        return None
    return AccessLog(reactor, TwistedLog() if where == "-" else LogFile(where))


def _reached_at(description: str, port: IListeningPort) -> str | None:
    """What a client on this machine would type, if that is all that it needs; else None."""
    ours = describe(description)
    # Of TLS we do not know whom the client would trust.
    if ours is None or ours.kind == "tls":
        return None
    address = address_of(port.getHost())
    # The client's strings know no abstract names.
    return None if address.path.startswith(("\0", "@")) else client_string(address)
