"""
Several protocols behind one port: the client asks for one by name, and gets it as its session.

Wire format: both sides say one line, which ends in LF or CRLF, has at most 1024 bytes and consists
of words with one blank between two of them. What the client says are names, the best one first; the
server takes the first of them that it has, and answers one of two::

    OK chat/2                       the session of that name begins with the next byte
    NO chat/1 chat/2 echo           none of them is on offer, but these are; it closes

A name has 1 to 255 bytes of UTF-8, and may carry a version, as in ``chat/2``. Names are compared as
they are, byte for byte, so two versions are two names, of two sessions. No name is ``?``, and
whoever asks for that gets the list.

A client that asks for one name may send the session's first bytes right behind its line; one that
asks for several does not know yet whose bytes these would be.

TCPMUX (RFC 1078) asks for one name in a line, too, and lists in answer to ``HELP``; that the client
offers several in one go, and that the server answers with the one it takes, is from ALPN (RFC 7301
section 3). But there the server's order counts, and here the client's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sockproto.core.errors import ConfigurationError, shorten
from sockproto.core.outcomes import Accept, Reject
from sockproto.core.peer import Peer

MAX_LINE = 1024
MAX_NAME = 255
"""The most bytes of a name, as in RFC 7301 section 3.1; the answer to it fits into a line."""

ASK = "?"
"""A name that nothing has, so that the answer is the list."""

TAKEN = b"OK"
DECLINED = b"NO"


class Negotiate:
    """
    Accept whoever asks for a session by its name, and begin that one.

    A server offers the sessions that it has by name. A client is accepted with the name that the
    server has taken as the ``result``, and as the ``session`` if it has one of that name itself.

    Args:
        wanted: What a client asks for: names with commas between them, the best one first. Without
            it, a client asks for the names of its own sessions, and one that has none for the list,
            which is then the reason of its ``Reject``.

    Raises:
        ConfigurationError: If a name cannot be asked for.
    """

    def __init__(self, wanted: str | None = None) -> None:
        self._wanted = () if wanted is None else tuple(wanted.split(","))
        for name in self._wanted:
            if not _can_be_said(name):
                raise ConfigurationError(
                    f"negotiate cannot ask for {name!r}; write names of 1 to {MAX_NAME} bytes "
                    "without blanks, with commas between them, like chat/2,chat/1"
                )
        _line(self._wanted)

    async def serve(self, peer: Peer) -> Accept | Reject:
        """Receive names, and take the first that is on offer."""
        offered = {name.encode(): name for name in peer.sessions if _can_be_said(name)}
        line = await peer.receive_line(MAX_LINE)
        for wanted in line.split(b" "):
            if wanted in offered:
                return Accept(b"%b %b\n" % (TAKEN, wanted), session=offered[wanted])
        asked = line == ASK.encode()
        reason = "it asked for the list" if asked else f"{shorten(line)} is not on offer"
        return Reject(_list_of(offered), reason=reason)

    async def connect(self, peer: Peer) -> Accept | Reject:
        """Ask for names, and see which of them the server takes."""
        wanted = self._wanted or tuple(filter(_can_be_said, peer.sessions))
        peer.send(_line(wanted or (ASK,)))
        answer, *names = (await peer.receive_line(MAX_LINE)).split(b" ")
        if answer == TAKEN and len(names) == 1:
            taken = names[0].decode("utf-8", "replace")
            if taken in wanted:
                return Accept(session=taken if taken in peer.sessions else None, result=taken)
            return Reject(reason=f"it took {shorten(names[0])}, which we have not asked for")
        if answer == DECLINED:
            offered = b", ".join(names).decode("utf-8", "backslashreplace")
            return Reject(reason=f"on offer is {offered or 'nothing'}")
        return Reject(reason="that is not a negotiate server")


def _can_be_said(name: str) -> bool:
    """Whether a name is a word of a line, and not the one that asks for the list."""
    if name in ("", ASK) or " " in name or not name.isprintable():
        return False
    return len(name.encode()) <= MAX_NAME


def _line(names: Sequence[str]) -> bytes:
    line = " ".join(names).encode()
    if len(line) > MAX_LINE:
        raise ConfigurationError(
            f"negotiate cannot ask for names of {len(line)} bytes together, "
            f"the most that a line has is {MAX_LINE}; ask for fewer"
        )
    return line + b"\n"


def _list_of(names: Iterable[bytes]) -> bytes:
    """The answer that lists names, as many as fit into a line."""
    line = DECLINED
    for name in names:
        if len(line) + 1 + len(name) <= MAX_LINE:
            line += b" " + name
    return line + b"\n"
