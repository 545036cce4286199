"""The service that ``twistd sockserver`` and ``twist sockserver`` run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockproto._version import __version__
from sockproto.admission.control import AdmissionControl
from sockproto.core.errors import ConfigurationError
from sockproto.events import Observer
from sockproto.service.accesslog import AccessLog, LogFile, TwistedLog
from sockproto.service.descriptors import raise_descriptor_limit
from sockproto.service.escaping import escaped
from sockproto.service.logs import NAMESPACE, TroubleLog
from sockproto.service.monotonic import follow_monotonic_time
from sockproto.service.options import Options
from sockproto.service.signals import when_told_again
from sockproto.transport.datagram import DatagramPort, listen_datagrams
from sockproto.transport.descriptions import client_string, describe, opens_for_datagrams
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
        logs: What has to be written before we go.
    """

    def __init__(
        self,
        factory: ServerFactory,
        ports: Sequence[IListeningPort],
        try_it: str = "",
        warnings: Sequence[str] = (),
        logs: Sequence[AccessLog | TroubleLog] = (),
    ) -> None:
        self.factory = factory
        self.ports = list(ports)
        self._try_it = try_it
        self._warnings = list(warnings)
        self._logs = logs

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
        """Close the ports, and end every connection within the close timeout; told again, now."""
        super().stopService()
        when_told_again(self.factory.terms.clock, self._hurry)
        ports, self.ports = self.ports, []
        closing = [maybeDeferred(port.stopListening).addErrback(_tell) for port in ports]
        closed = DeferredList(closing).addCallback(lambda _: self.factory.shut_down())
        return closed.addBoth(self._last_words)

    def _hurry(self) -> None:
        _log.info("told to stop again, and waiting for nobody any longer")
        self.factory.cut_short()

    def _last_words(self, result: Any) -> Any:
        for each in self._logs:
            each.close()
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
    descriptors = raise_descriptor_limit()
    admission = _admission(options, descriptors, reactor)
    try:
        access_log = _access_log(options.access_log, reactor)
    except ConfigurationError as error:
        raise SystemExit(f"sockserver: {escaped(str(error))}") from error
    trouble = TroubleLog(Logger(NAMESPACE), reactor)
    logs: list[AccessLog | TroubleLog] = [trouble] if access_log is None else [access_log, trouble]
    factory = ServerFactory(
        options.handshake,
        options.session,
        limits=options.limits,
        admission=admission,
        observers=logs,
        clock=reactor,
        proxy=options.proxy,
    )
    ports: list[IListeningPort] = []
    for description in options.listen:
        try:
            if opens_for_datagrams(description):
                ports.append(_listen_datagrams(reactor, description, options, descriptors, logs))
            else:
                ports.append(listen(reactor, description, factory, backlog=options.backlog))
        except ConfigurationError as error:
            for port in ports:
                port.stopListening()
            for log in logs:
                log.close()
            raise SystemExit(f"sockserver: {escaped(str(error))}") from error
    if options.session and all(isinstance(port, DatagramPort) for port in ports):
        options.warnings.append(
            "a session is set, but none follows a datagram, and there is no endpoint for "
            "connections; leave --session out, or add one with --listen"
        )
    try_it = ""
    where = next(filter(None, map(_reached_at, options.listen, ports)), None)
    # Somebody who is no proxy would not be heard.
    if where is not None and options.proxy is None:
        try_it = f"sockproto connect {shlex.quote(where)} {options.try_it}"
    return SockServer(factory, ports, try_it, options.warnings, logs)


def _admission(options: Options, descriptors: int, reactor: Any) -> AdmissionControl:
    """What all the ports ask; it has to be told what the operator will want to hear of."""
    policy = options.policy_for(descriptors)
    most = policy.max_connections
    if 0 <= descriptors < (most or 0):
        options.warnings.append(
            f"max-connections is {most}, but this process may have {descriptors} descriptors; "
            "raise the limit (ulimit -n, or LimitNOFILE= under systemd)"
        )
    return AdmissionControl(policy, seconds=reactor.seconds, dry_run=options.dry_run)


def _listen_datagrams(
    reactor: Any, description: str, options: Options, descriptors: int, logs: Sequence[Observer]
) -> IListeningPort:
    if options.proxy is not None:
        raise ConfigurationError(
            f"cannot listen on {description}: no PROXY header is read from datagrams; leave "
            "--proxy-protocol out, or serve them from another process"
        )
    # An admission of its own: over UDP senders are forged, and what is counted against one of them
    # must not be counted against who connects from there.
    policy = replace(options.policy_for(descriptors), penalties=None)
    return listen_datagrams(
        reactor,
        description,
        options.handshake,
        limits=options.limits,
        admission=AdmissionControl(policy, seconds=reactor.seconds, dry_run=options.dry_run),
        observers=logs,
        clock=reactor,
        max_amplification=options.udp_max_amplification,
    )


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
    datagrams = isinstance(port, DatagramPort)
    # Twisted's client strings know no abstract names.
    if address.path.startswith(("\0", "@")) and not datagrams:
        return None
    return client_string(address, datagrams=datagrams)
