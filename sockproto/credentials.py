"""Who is at the other end of a unix socket: the system knows, and nobody can pretend."""

from __future__ import annotations

import socket
import struct
from typing import Any

_UCRED = struct.Struct("iII")
"""``struct ucred`` of unix(7): process, user, group."""


def uid_of(handle: Any) -> int | None:
    """The user id on the other end of a unix socket, if the system tells (SO_PEERCRED, unix(7))."""
    try:
        found = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except (AttributeError, OSError):
        # In memory, or on a system that does not tell.
        return None
    uid: int = _UCRED.unpack(found)[1]
    return uid
