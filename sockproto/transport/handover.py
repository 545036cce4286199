"""
Give a live transport to a session, with every byte that came early.

The session must see what it would see on a connection of its own: ``makeConnection``, then the
bytes in order, each once, then perhaps the end of the stream. Three things make that more than two
calls. A session may pause the transport in ``connectionMade``, because it has nowhere to put bytes
yet (Twisted's own ``portforward`` does); what came early then waits until it resumes. Over TLS,
bytes that have been decrypted go on coming for a moment after that. And a session may close the
transport there, or lose it; what came early is then nobody's.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol

from sockproto.core.errors import HandshakeFailed
from sockproto.core.outcomes import Accept
from sockproto.transport.facts import speaks_tls
from sockproto.transport.lease import Lease


def hand_over(lease: Lease, outer: Any, accept: Accept, early: bytes, *, ended: bool) -> None:
    """
    Make the lease's session the one that the transport talks to.

    Args:
        lease: What ends the session if it breaks.
        outer: Twisted's protocol on this transport, ours until now. Its receiving methods become
            the session's own, so that nothing stands in the data path. It is told when the session
            has begun, before that gets a byte.
        accept: The verdict; the session gets it if it has a method ``handshake_accepted``.
        early: What arrived after the handshake's last byte.
        ended: Whether the peer has already finished sending.
    """
    held = None
    if early or ended or speaks_tls(lease.transport):
        held = _Early(lease, outer, early, ended)
    else:
        _rebind(outer, lease)
    doing = "handshake_accepted"
    try:
        accepted = getattr(lease.session, doing, None)
        if accepted is not None:
            accepted(accept)
        doing = "connectionMade"
        lease.session.makeConnection(lease.transport)
    except BaseException as error:
        failed = HandshakeFailed("the session", f"raised {error!r} in {doing}")
        failed.__cause__ = error
        outer.concluded(failed, None)
        # Twisted would leave such a connection open, with nobody to manage it.
        lease.crash(doing)
        return
    outer.concluded(accept, lease.session)
    if held is not None:
        held.begin()


def _rebind(outer: Any, lease: Lease) -> None:
    session = lease.session
    outer.dataReceived = session.dataReceived
    outer.readConnectionLost = lease.read_connection_lost
    if IHalfCloseableProtocol.providedBy(session):
        outer.writeConnectionLost = session.writeConnectionLost


class _Early:
    """
    What came before its session could take it.

    It stands between transport and session only until it is empty. Meanwhile it hears of a session
    that pauses, resumes or aborts by standing in for those three methods of the transport.
    """

    def __init__(self, lease: Lease, outer: Any, data: bytes, ended: bool) -> None:
        self._lease = lease
        self._outer = outer
        self._held = [data] if data else []
        self._ended = ended
        self._paused = self._aborted = self._done = False
        # Until connectionMade has returned, whatever the session asks for there.
        self._delivering = True
        transport = lease.transport
        self._pause = transport.pauseProducing
        self._resume = transport.resumeProducing
        self._abort = transport.abortConnection
        transport.pauseProducing = self.pause
        transport.resumeProducing = self.resume
        transport.abortConnection = self.abort
        outer.dataReceived = self._held.append
        outer.readConnectionLost = self.eof_received

    def pause(self) -> None:
        self._paused = True
        self._pause()

    def resume(self) -> None:
        self._paused = False
        self.deliver()
        # After the end there is nothing to read but the end, once more.
        if not self._paused and not self._ended and not self._closed:
            self._resume()

    def abort(self) -> None:
        self._aborted = True
        self._abort()

    def eof_received(self) -> None:
        self._ended = True
        self.deliver()

    def begin(self) -> None:
        """The session is ready, unless it has paused."""
        self._delivering = False
        self.deliver()

    def deliver(self) -> None:
        """Give the session what it is ready for; with nothing left, step aside."""
        if self._delivering or self._done:
            return
        self._delivering = True
        lease = self._lease
        try:
            while self._held and not self._paused and not self._closed:
                lease.session.dataReceived(self._held.pop(0))
        except BaseException:
            lease.crash("dataReceived")
        finally:
            self._delivering = False
        if not self._paused or self._closed:
            self._step_aside()

    @property
    def _closed(self) -> bool:
        """Whether the session has closed, or is over; what is held is nobody's then."""
        lease = self._lease
        return self._aborted or lease.over or lease.transport.disconnecting

    def _step_aside(self) -> None:
        self._done = True
        lease = self._lease
        for name in ("pauseProducing", "resumeProducing", "abortConnection"):
            delattr(lease.transport, name)
        _rebind(self._outer, lease)
        if not self._ended or self._closed:
            return
        try:
            lease.peer_finished()
        except BaseException:
            lease.crash("readConnectionLost")
