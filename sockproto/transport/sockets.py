"""
Doors: sockets of ours that strangers come to.

A socket that Twisted has created is shut down for every holder when it stops listening, and one
that Twisted adopts is re-listened and, on a path, made writable for everybody and unlinked. So we
bind, describe and close our own, and this module knows nothing of Twisted.

A unix socket asks for the most care, because its name is a file. It is bound under a temporary
name and renamed when it listens: a client finds the old socket or the new one, never none and
never one that is not open yet. The directory is locked meanwhile, so that of two who start at once
one wins and the other is told. And only what is still ours is unlinked.

Why SO_REUSEPORT is not on offer: whoever waits in the queue of one such socket is reset when that
socket closes, even if others listen on the port.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    AI_PASSIVE,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SHUT_RD,
    SO_ACCEPTCONN,
    SO_REUSEADDR,
    SO_TYPE,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    AddressFamily,
    SocketKind,
    gaierror,
    getaddrinfo,
    socket,
)

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.transport.datagram_facts import ask_for_more

DEFAULT_MODE = 0o600
"""Who may connect to a unix socket: whoever we are, and root."""

FIRST_PASSED = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

_MOST_OF_A_PATH = 107
"""Bytes of ``sun_path`` in unix(7), without the NUL at its end."""

_TEMPORARY = ".sockproto"
"""
What a unix socket is called until it listens. Not random: whoever holds the directory's lock may
have it, and clears away what a crash has left there.
"""

_PATIENCE = 2.0
"""Seconds to wait for a directory's lock, which is held for as long as a bind takes."""

_IN_USE = "; stop whoever listens there, or choose another address"
_ADVICE = {
    errno.EADDRINUSE: _IN_USE,
    errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
}
_UNIX_ADVICE = {
    errno.EADDRINUSE: _IN_USE,
    errno.EACCES: "; the user who runs this must be able to read and write its directory",
    errno.ENOENT: "; create its directory first",
    errno.EPERM: "; what is there belongs to somebody else, choose another path",
}

_FAMILIES: Mapping[int, str] = {AF_INET: "INET", AF_INET6: "INET6", AF_UNIX: "UNIX"}

_SO_BINDTOIFINDEX = 62
"""Its number in <asm-generic/socket.h>; the socket module does not have it."""

_NO_INTERFACE = 2**31 - 1
"""The index of a network interface that there is not."""


class Door:
    """
    A listening stream socket, or a datagram socket that is bound.

    Attributes:
        socket: Does not block, and is closed on exec.
        address: Where it is; what logs and peers show. Of a unix socket the path as it was given.
        local: Our end of every connection that comes in here; None behind a wildcard address,
            where each has to be asked.
        inherited: Whether somebody else has opened it, and may go on with it.
    """

    def __init__(
        self,
        listening: socket,
        address: Address,
        *,
        inherited: bool = False,
        name: _Name | None = None,
    ) -> None:
        listening.setblocking(False)
        self.socket = listening
        self.address = address
        self.local = None if address.host in ("0.0.0.0", "::") else address
        self.inherited = inherited
        self._name = name

    def shut(self) -> None:
        """
        Let nobody new in. Whoever is in the queue can still be accepted.

        Shut the door, accept until that would block, and close it: then nobody whose connect()
        has returned is reset. Without this, that is what happens to those who come between the
        last accept and the close. Every holder of the socket is affected, so an inherited one
        stays as it is.
        """
        if self.inherited:
            return
        if self._name is not None:
            self._name.remove()
        # Where the system cannot, close() has to be enough.
        with suppress(OSError):
            if self.address.family == "unix":
                self.socket.shutdown(SHUT_RD)
            else:
                # Not shutdown(): that resets the queue of a TCP socket. One that listens on a
                # single interface (SO_BINDTODEVICE in socket(7)) is not found from any other, and
                # keeps its queue. It takes no privilege since Linux 5.7.
                self.socket.setsockopt(SOL_SOCKET, _SO_BINDTOIFINDEX, _NO_INTERFACE)

    def close(self) -> None:
        """Close our descriptor, and unlink the file of a unix socket if it is still ours."""
        # First the file: as long as the socket is open, no other can have its inode number.
        if self._name is not None:
            self._name.remove()
            self._name.forget()
            self._name = None
        self.socket.close()


def tcp(port: int, host: str = "", *, backlog: int, v6: bool = False, dual: bool = False) -> Door:
    """
    Listen on a TCP port.

    Args:
        port: 0 for any that is free.
        host: An address of this machine, or a name of it; empty for every address. A name stands
            for the first address that it resolves to.
        backlog: How many clients the kernel may keep waiting.
        v6: Whether an IPv6 address is meant; so it is if ``host`` is one.
        dual: Whether IPv4 clients may come in as well; ``host`` must be empty or ``::``.

    Raises:
        ConfigurationError: If that is not possible: the reason, in one sentence.
    """
    with _explained(_ADVICE), ExitStack() as undo:
        place, listening = _socket_for(SOCK_STREAM, port, host, v6, dual)
        undo.enter_context(listening)
        listening.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(backlog)
        undo.pop_all()
    return Door(listening, _address_of(listening))


def udp(port: int, host: str = "", *, dual: bool = False) -> Door:
    """
    Receive datagrams on a UDP port.

    Args:
        port, host, dual: As for :func:`tcp`.

    Raises:
        ConfigurationError: If that is not possible: the reason, in one sentence.
    """
    with _explained(_ADVICE), ExitStack() as undo:
        place, bound = _socket_for(SOCK_DGRAM, port, host, False, dual)
        undo.enter_context(bound)
        ask_for_more(bound)
        # Without SO_REUSEADDR: of a UDP port that has it, anybody who has it too takes the
        # datagrams away (socket(7)), and there are no old connections that would linger.
        bound.bind(place)
        undo.pop_all()
    return Door(bound, _address_of(bound))


def unix(path: str, *, backlog: int, mode: int | None = None, replace: bool = False) -> Door:
    """
    Listen on a unix socket.

    What a dead process has left at the path is replaced; anything else is left alone.

    Args:
        path: A file, or after ``@`` (or NUL) a name in the abstract namespace of unix(7), which
            has no file, no mode, and is open to everybody in the network namespace.
        backlog: How many clients the kernel may keep waiting.
        mode: Who may connect; :data:`DEFAULT_MODE` unless given.
        replace: Whether to take the place of a socket that is alive, too. Its clients stay with
            it; new ones come to us. A restart that opens the new door first refuses nobody.

    Raises:
        ConfigurationError: If that is not possible: the reason, in one sentence.
    """
    with _explained(_UNIX_ADVICE), ExitStack() as undo:
        listening = undo.enter_context(socket(AF_UNIX, SOCK_STREAM))
        door = _at(path, listening, lambda: listening.listen(backlog), mode, replace)
        undo.pop_all()
    return door


def unixgram(path: str, *, mode: int | None = None, replace: bool = False) -> Door:
    """
    Receive datagrams on a unix socket.

    Args:
        path, mode, replace: As for :func:`unix`. ``mode`` says who may send.

    Raises:
        ConfigurationError: If that is not possible: the reason, in one sentence.
    """
    with _explained(_UNIX_ADVICE), ExitStack() as undo:
        bound = undo.enter_context(socket(AF_UNIX, SOCK_DGRAM))
        ask_for_more(bound)
        door = _at(path, bound, lambda: None, mode, replace)
        undo.pop_all()
    return door


def inherited(fileno: int, *, backlog: int | None = None, kind: SocketKind = SOCK_STREAM) -> Door:
    """
    Go on with a socket that listens already, and that whoever started this program has left open.

    The descriptor is ours from now on: it is closed on exec, and :meth:`Door.close` closes it. The
    socket stays as its owner wants it: it is not shut down, and its file not touched.

    Args:
        fileno: The descriptor.
        backlog: How many clients the kernel may keep waiting; unless given, as many as it may now.
        kind: Which kind of socket is meant: ``SOCK_STREAM`` or ``SOCK_DGRAM``.

    Raises:
        ConfigurationError: If it cannot be used: the reason, in one sentence.
    """
    return _adopt(fileno, backlog, None, kind)


def systemd(
    *,
    index: int | None = None,
    name: str | None = None,
    domain: str | None = None,
    backlog: int | None = None,
    kind: SocketKind = SOCK_STREAM,
    environ: Mapping[str, str] | None = None,
) -> Door:
    """
    Go on with a socket that systemd has opened for us, as sd_listen_fds(3) describes it.

    Args:
        index: Which of them, from 0.
        name: Or which by its ``FileDescriptorName=`` (systemd.socket(5)).
        domain: The family that it must have: ``INET``, ``INET6`` or ``UNIX``.
        backlog, kind: As for :func:`inherited`.
        environ: The environment; unless given, ours.

    Raises:
        ConfigurationError: If there is no such socket, or it cannot be used: the reason, in one
            sentence.
    """
    fileno = systemd_descriptor(index=index, name=name, environ=environ)
    return _adopt(fileno, backlog, domain, kind)


def systemd_descriptor(
    *,
    index: int | None = None,
    name: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """
    The descriptor of a socket that systemd has opened for us; nothing is done with it yet.

    Args:
        index, name, environ: As for :func:`systemd`.

    Raises:
        ConfigurationError: If there is no such socket: the reason, in one sentence.
    """
    names = _passed(_environment() if environ is None else environ)
    if name is not None:
        index = _index_of(name, names)
    elif index is None:
        raise ConfigurationError("which of systemd's sockets? give index=N or name=NAME")
    if index >= len(names):
        raise ConfigurationError(
            f"no socket {index} was passed to us, but {len(names)}, counted from 0"
        )
    return FIRST_PASSED + index


def is_datagram_socket(fileno: int) -> bool:
    """Whether a descriptor, if it is one, is a socket for datagrams (SO_TYPE in socket(7))."""
    try:
        seen = socket(fileno=fileno)
    except OSError:
        return False
    try:
        return seen.getsockopt(SOL_SOCKET, SO_TYPE) == SOCK_DGRAM
    finally:
        # It is not ours to close.
        seen.detach()


class _Name:
    """The file of a unix socket, in a directory that stays the same wherever we go."""

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._name = name
        self._handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep everybody else out who opens or closes a door in this directory."""
        # The directory itself, so that no lock file is left behind.
        patient_until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= patient_until:
                    raise ConfigurationError(
                        "somebody else keeps its directory locked; see who with lslocks, or choose "
                        "another one"
                    ) from error
                time.sleep(0.005)
        try:
            yield
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def make_way(self, path: str, replace: bool) -> None:
        """Make sure that the name is free, or that of a socket that may be replaced."""
        try:
            # A path that ends in a slash is its directory.
            found = self._look(self._name or ".").st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found):
            kinds = {stat.S_IFLNK: "symbolic link", stat.S_IFDIR: "directory"}
            kind = kinds.get(stat.S_IFMT(found), "file that is no socket")
            raise ConfigurationError(f"a {kind} is in the way; move it")
        if not replace and _is_alive(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    @contextmanager
    def bound(self, unbound: socket, mode: int) -> Iterator[None]:
        """Bind under the temporary name, and take the real one when the block is done."""
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._look(_TEMPORARY).st_mode):
                raise ConfigurationError(f"{_TEMPORARY} is in the way, beside it; move it")
            os.unlink(_TEMPORARY, dir_fd=self._handle)
        place = os.path.join(self._folder, _TEMPORARY)
        if len(os.fsencode(place)) > _MOST_OF_A_PATH:
            place = f"/proc/self/fd/{self._handle}/{_TEMPORARY}"
        umask = os.umask(0o777 & ~mode)
        try:
            unbound.bind(place)
        finally:
            os.umask(umask)
        try:
            yield
            self._identity = self._identify(_TEMPORARY)
            os.rename(_TEMPORARY, self._name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except BaseException:
            os.unlink(_TEMPORARY, dir_fd=self._handle)
            raise

    def remove(self) -> None:
        """Unlink it if it is still ours. What is left is dead, and will be replaced."""
        if self._identity is None:
            return
        with suppress(OSError, ConfigurationError), self.locked():
            if self._identify(self._name) == self._identity:
                os.unlink(self._name, dir_fd=self._handle)
        self._identity = None

    def forget(self) -> None:
        """Let go of the directory."""
        os.close(self._handle)

    def _look(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._handle, follow_symlinks=False)

    def _identify(self, name: str) -> tuple[int, int]:
        found = self._look(name)
        return found.st_dev, found.st_ino


def _at(
    path: str, unbound: socket, listen: Callable[[], object], mode: int | None, replace: bool
) -> Door:
    """Bind a unix socket at a path or to an abstract name; it listens before it is seen."""
    if path[:1] in ("@", "\0"):
        return _abstract(path[1:], unbound, listen, mode)
    check_length(path)
    folder, name = os.path.split(path)
    with ExitStack() as undo:
        place = _Name(folder, name)
        undo.callback(place.forget)
        with place.locked():
            place.make_way(path, replace)
            with place.bound(unbound, DEFAULT_MODE if mode is None else mode):
                listen()
        undo.pop_all()
    return Door(unbound, Address("unix", path=path), name=place)


def _abstract(name: str, unbound: socket, listen: Callable[[], object], mode: int | None) -> Door:
    if not name:
        raise ConfigurationError("an abstract name needs at least one character after its @")
    if mode is not None:
        raise ConfigurationError(
            "an abstract socket has no mode, everybody may connect to it; leave the mode out, or "
            "choose a file"
        )
    check_length(name)
    path = f"\0{name}"
    unbound.bind(os.fsencode(path))
    listen()
    return Door(unbound, Address("unix", path=path))


def check_length(path: str) -> None:
    """
    See whether a unix socket can have this path.

    Raises:
        ConfigurationError: If it cannot: the reason, in one sentence.
    """
    if not path:
        raise ConfigurationError("the path of the socket is missing")
    if "\0" in path:
        raise ConfigurationError("a path with a NUL in it cannot be")
    size = len(os.fsencode(path))
    if size > _MOST_OF_A_PATH:
        raise ConfigurationError(
            f"its path has {size} bytes, and that of a unix socket at most {_MOST_OF_A_PATH}; "
            "choose a shorter one, or a relative one"
        )


def _is_alive(path: str) -> bool:
    """Whether somebody holds the socket that is at a path."""
    with socket(AF_UNIX, SOCK_STREAM) as visitor:
        visitor.setblocking(False)
        try:
            visitor.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except PermissionError as error:
            raise ConfigurationError(
                "a socket that we may not connect to is in the way; move it, or choose another path"
            ) from error
        except OSError:
            # EAGAIN: its backlog is full. EPROTOTYPE: it is a datagram socket.
            return True
    return True


def _socket_for(
    kind: SocketKind, port: int, host: str, v6: bool, dual: bool
) -> tuple[tuple[object, ...], socket]:
    """Where to bind, and a socket of the family for it."""
    if dual and host not in ("", "::"):
        raise ConfigurationError(
            f"a dual-stack socket listens on every address, not on {host} alone; "
            "leave the interface out, or dual=1"
        )
    family = AF_INET6 if v6 or dual or ":" in host else AF_INET
    place = _resolve(host, port, family)
    made = socket(family, kind)
    if family == AF_INET6:
        made.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, not dual)
    return place, made


def _resolve(host: str, port: int, family: AddressFamily) -> tuple[object, ...]:
    try:
        found = getaddrinfo(host or None, port, family, SOCK_STREAM, flags=AI_PASSIVE)
    except UnicodeError as error:
        raise ConfigurationError(
            f"{host!r} cannot be the name of a host; give a name or a numeric address"
        ) from error
    return found[0][4]


def _adopt(fileno: int, backlog: int | None, domain: str | None, kind: SocketKind) -> Door:
    who = f"descriptor {fileno}"
    try:
        listening = socket(fileno=fileno)
    except OSError as error:
        trouble = "is no socket" if error.errno == errno.ENOTSOCK else "is not open"
        wanted = "datagram" if kind == SOCK_DGRAM else "listening"
        raise ConfigurationError(
            f"{who} {trouble}; whoever starts this program has to pass a {wanted} socket there"
        ) from error
    trouble = _unfit(listening, domain, kind)
    if trouble:
        # Then it is not ours to close.
        listening.detach()
        raise ConfigurationError(f"{who} {trouble}")
    listening.set_inheritable(False)
    if kind == SOCK_DGRAM:
        ask_for_more(listening)
    elif backlog is not None:
        # What listens already goes on, with another backlog.
        listening.listen(backlog)
    return Door(listening, _address_of(listening), inherited=True)


def _unfit(listening: socket, domain: str | None, kind: SocketKind) -> str:
    """Why a socket that was passed to us cannot be a door; empty if it can."""
    family = _FAMILIES.get(listening.family)
    if family is None:
        return "is neither an IP nor a unix socket; pass one of these"
    if domain not in (None, family):
        return f"is a socket of the domain {family}, not {domain}; say domain={family}"
    if listening.getsockopt(SOL_SOCKET, SO_TYPE) != kind:
        if kind == SOCK_DGRAM:
            return "is no datagram socket; pass one (with systemd, by ListenDatagram=)"
        return "is no stream socket; pass one (with systemd, by ListenStream=)"
    if kind == SOCK_STREAM and not listening.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
        return "is a socket that does not listen; pass one that does (with systemd, by Accept=no)"
    if kind == SOCK_DGRAM and not _is_bound(listening):
        return "is a socket that is not bound, so nobody could send to it; pass one that is"
    # Nothing that is closed on exec has come to us through one.
    if not listening.get_inheritable():
        return "is this program's own, or in use already; pass another one"
    return ""


def _is_bound(datagrams: socket) -> bool:
    place = datagrams.getsockname()
    # Of a port the number is 0 until it is bound, and of a unix socket the name is empty.
    return bool(place if datagrams.family == AF_UNIX else place[1])


def _address_of(listening: socket) -> Address:
    place = listening.getsockname()
    if listening.family == AF_UNIX:
        return Address("unix", path=os.fsdecode(place))
    return Address.ip(place[0], place[1])


def _environment() -> Mapping[str, str]:
    if "LISTEN_FDS" in os.environ:
        return os.environ
    # Twisted takes them out when twisted.internet.endpoints is imported. This is how we were
    # started, whatever has been changed since: proc(5).
    with suppress(OSError):
        lines = Path("/proc/self/environ").read_bytes().split(b"\0")
        return {
            key: value for key, _, value in (os.fsdecode(each).partition("=") for each in lines)
        }
    return {}


def _passed(environ: Mapping[str, str]) -> list[str]:
    """The names of the sockets that were passed to us, in order."""
    number, pid = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if number in ("", "0"):
        raise ConfigurationError(
            "no such socket was passed to us; is LISTEN_FDS set, as sd_listen_fds(3) has it?"
        )
    if pid != str(os.getpid()):
        raise ConfigurationError(
            f"the sockets were passed to process {pid or '?'} and we are {os.getpid()}; start this "
            "program itself, not a shell that starts it"
        )
    if not (number.isascii() and number.isdigit()):
        raise ConfigurationError(
            f"LISTEN_FDS must be a number, as sd_listen_fds(3) has it, not {number!r}"
        )
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    # What sd_listen_fds_with_names(3) calls those without one.
    return names if len(names) == int(number) and names[0] else ["unknown"] * int(number)


def _index_of(name: str, names: list[str]) -> int:
    if name not in names:
        known = ", ".join(names)
        raise ConfigurationError(f"no socket named {name!r} was passed to us, but {known}")
    if names.count(name) > 1:
        raise ConfigurationError(
            f"{names.count(name)} of the sockets that were passed to us are named {name!r}; "
            "give index=N"
        )
    return names.index(name)


@contextmanager
def _explained(advice: Mapping[int, str]) -> Iterator[None]:
    """Say in one sentence why the system refuses, and what to do."""
    try:
        yield
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        if isinstance(error, gaierror):
            said += "; give a numeric address of this machine, or a name that resolves to one"
        raise ConfigurationError(said + advice.get(error.errno or 0, "")) from error
