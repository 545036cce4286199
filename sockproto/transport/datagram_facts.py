"""
What the kernel tells of a datagram besides its bytes: to which of our addresses it came, and whose.

A socket that is bound to every address answers from whichever the route suggests, and whoever has
asked another one does not take that for an answer. So the kernel is asked where each datagram came
to (IP_PKTINFO in ip(7), RFC 3542 section 6), and told to send the answer from there. On a unix
socket it vouches for the sender's user (SO_PASSCRED in unix(7)).

What has come before the kernel was asked, as to a socket that was opened by somebody else and made
him start us, has less on its envelope.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from socket import AF_INET, AF_INET6, AF_UNIX, CMSG_SPACE, inet_ntop
from typing import NamedTuple

from sockproto.core.facts import Address

IP_PKTINFO = 8
"""Its number in <linux/in.h>; the socket module of Python 3.11 does not have it."""

_INET = struct.Struct("=I4s4s")
"""``struct in_pktinfo``: the interface, our address there, the address in the datagram's header."""

_INET6 = struct.Struct("=16sI")
"""``struct in6_pktinfo``: the address in the datagram's header, the interface."""

_UCRED = struct.Struct("=iII")
"""``struct ucred``: process, user, group."""

_NOWHERE = bytes(4)
"""Stands for our address, of what came before the kernel was asked."""

_NOBODY = (0, 65534)
"""The process and the user, of what came before. (``kernel.overflowuid`` could change that.)"""

Ancillary = Iterable[tuple[int, int, bytes]]

_ROOM = {
    AF_INET: CMSG_SPACE(_INET.size),
    # Of a dual-stack socket both are told.
    AF_INET6: CMSG_SPACE(_INET6.size) + CMSG_SPACE(_INET.size),
    # No more than that: descriptors that a sender passes along find no room, and are not ours then.
    AF_UNIX: CMSG_SPACE(_UCRED.size),
}


class Envelope(NamedTuple):
    """
    What stands outside a datagram.

    Attributes:
        host: Which of our addresses it came to; empty if that is not told.
        to_many: Whether it was sent to a group or to everybody, and we are only one of them.
        uid: The user who sent it, on a unix socket; or None.
        answer: What ``sendmsg()`` has to be told, so that the answer leaves from there.
    """

    host: str = ""
    to_many: bool = False
    uid: int | None = None
    answer: Sequence[tuple[int, int, bytes]] = ()


_BLANK = Envelope()


def ask_for_more(bound: socket.socket) -> None:
    """
    Have the kernel tell it, from the next datagram on.

    A socket that is not bound yet has told nothing less by then.
    """
    if bound.family == AF_UNIX:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    elif bound.family == AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        # For what comes over IPv4: only this tells a broadcast from what was sent to us alone.
        bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def room_for(bound: socket.socket) -> int:
    """How much room ``recvmsg()`` needs for it."""
    return _ROOM[bound.family]


def read_envelope(ancillary: Ancillary) -> Envelope:
    """What ``recvmsg()`` has brought along."""
    found = _BLANK
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, ours, header = _INET.unpack(data)
            if ours == _NOWHERE:
                # From what is no address of ours, as one that stands for everybody, the kernel
                # will not send.
                ours = header
            # No interface: an answer may take another way back.
            answer = _INET.pack(0, ours, bytes(4))
            return Envelope(inet_ntop(AF_INET, ours), ours != header, None, [(level, kind, answer)])
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            header, _ = _INET6.unpack(data)
            answer = _INET6.pack(header, 0)
            # RFC 4291 section 2.7.
            to_many = header[0] == 0xFF
            # Unless it came over IPv4, and the next one knows more.
            found = Envelope(inet_ntop(AF_INET6, header), to_many, None, [(level, kind, answer)])
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            process, user, _ = _UCRED.unpack(data)
            return _BLANK if (process, user) == _NOBODY else Envelope(uid=user)
    return found


def local_address(envelope: Envelope, bound: Address) -> Address:
    """
    Where the sender has found us.

    Args:
        envelope: What stands outside its datagram.
        bound: Where our socket is.
    """
    return Address.ip(envelope.host, bound.port) if envelope.host else bound
