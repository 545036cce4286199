"""
See whether anything moves between a session and its peer, with nothing in the way.

What a session *writes* is no sign of life: to a peer that does not read it can write for ever. So
the network itself is asked, below TLS. The descriptor at the bottom of the transport notes that the
kernel has given it bytes or has taken some. And the kernel is asked what it still holds, because it
takes a megabyte at once and may need a minute to send it, and because a session that has paused
reads nothing, however much its peer sends.

Nobody keeps the time of each byte. A watch looks four times in each idle timeout whether anything
has moved, and a session has to go after a whole timeout of nothing: never early, and up to a
quarter late.

A peer that reads slowly does so in steps, for all we see: TCP tells of room when there is enough of
it (RFC 9293 section 3.8.6.2.2), a unix socket when a block of up to 32 KiB has been read. Who takes
longer than the timeout for one such step has not been reading.
"""

from __future__ import annotations

from fcntl import ioctl
from math import inf
from termios import FIONREAD, TIOCOUTQ
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IReactorTime
from twisted.protocols.policies import ProtocolWrapper

from sockproto.limits import Limits

LOOKS = 4
"""How often is looked in each idle timeout."""

_INT = bytes(4)
"""Room for the answer (ioctl_tty(2))."""


def watch(transport: Any, limits: Limits, clock: IReactorTime) -> Watch | None:
    """Begin to watch a session's transport; None if the limits let it stay for ever."""
    if limits.session_idle_timeout == limits.session_lifetime == inf:
        return None
    return Watch(transport, limits, clock.seconds())


class Watch:
    """
    The two clocks of a session.

    Args:
        transport: The session's. The idle clock needs one of Twisted's descriptors at the bottom
            of it; without one, as in memory, it stands still.
        limits: The bounds.
        now: When the session begins.

    Attributes:
        due: When :meth:`is_over` is to be asked.
    """

    __slots__ = (
        "_descriptor",
        "_do_read",
        "_final_due",
        "_held",
        "_idle_due",
        "_idle_timeout",
        "_moved",
        "_write_some_data",
        "due",
    )

    def __init__(self, transport: Any, limits: Limits, now: float) -> None:
        self._idle_timeout = limits.session_idle_timeout
        self.due = self._final_due = now + limits.session_lifetime
        self._idle_due = inf
        self._descriptor: Any = None
        self._held = (b"", b"")
        self._moved = False
        if self._idle_timeout != inf:
            while isinstance(transport, ProtocolWrapper):
                transport = transport.transport
            if isinstance(transport, FileDescriptor):
                self._stand_in(transport)
                self._start_anew(now)

    def is_over(self, now: float) -> bool:
        """
        Whether the session has to go, now that ``due`` has come; if not, it comes again.

        Args:
            now: The clock's time.
        """
        if self.due == self._final_due:
            return True
        held = self._held_by_kernel()
        if self._moved or held != self._held:
            self._moved = False
            self._held = held
            self._start_anew(now)
        elif self.due == self._idle_due:
            return True
        else:
            self._look_again(now)
        return False

    def stop(self) -> None:
        """Leave the transport as it was."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            own = descriptor.__dict__
            ours = {"doRead": self.do_read, "writeSomeData": self.write_some_data}
            for name, method in ours.items():
                # One that aborts has put something else in our place, so as to read no more.
                if own.get(name) == method:
                    del own[name]

    def _stand_in(self, descriptor: Any) -> None:
        self._descriptor = descriptor
        self._held = self._held_by_kernel()
        self._do_read = descriptor.doRead
        self._write_some_data = descriptor.writeSomeData
        descriptor.doRead = self.do_read
        descriptor.writeSomeData = self.write_some_data

    def _start_anew(self, now: float) -> None:
        self._idle_due = now + self._idle_timeout
        self._look_again(now)

    def _look_again(self, now: float) -> None:
        self.due = min(now + self._idle_timeout / LOOKS, self._idle_due, self._final_due)

    def _held_by_kernel(self) -> tuple[bytes, bytes]:
        """How much has arrived and is unread, and how much has been taken and is on its way."""
        fileno = self._descriptor.fileno()
        return _ask(fileno, FIONREAD), _ask(fileno, TIOCOUTQ)

    # In the place of the descriptor's own

    def do_read(self) -> Any:
        """Something has arrived: bytes, or their end."""
        self._moved = True
        return self._do_read()

    def write_some_data(self, data: bytes) -> Any:
        """Give the kernel what it takes: so many bytes, or else an exception says why not."""
        taken = self._write_some_data(data)
        if isinstance(taken, int) and taken > 0:
            self._moved = True
        return taken


def _ask(fileno: int, request: int) -> bytes:
    try:
        return ioctl(fileno, request, _INT)
    except (OSError, ValueError):
        # A descriptor of another kind, a system that does not tell, or a socket that is closed.
        return b""
