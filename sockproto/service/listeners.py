"""
Open what ``--listen`` names, at once, and say in one sentence why not.

The sockets are bound while the service is being made: before twistd goes to the background, while a
relative path still means what the operator meant and the exit status still reaches him; and before
privileges are dropped.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from sockproto.core.errors import ConfigurationError
from sockproto.signatures import cut, unquote
from sockproto.transport.facts import address_of

_PLACES: Mapping[str, Mapping[str, int]] = {
    "tcp": {"backlog": 3},
    "tcp6": {"backlog": 2},
    "ssl": {"backlog": 6},
    "unix": {"mode": 2, "backlog": 3},
}
"""Where an endpoint string may say without a name what we have a default for."""

_IN_USE = "; stop whoever listens there, or choose another address"
_ADVICE = {
    errno.EADDRINUSE: _IN_USE,
    errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
}
_UNIX_ADVICE = {
    errno.EADDRINUSE: _IN_USE,
    errno.EACCES: "; the user who runs this must be able to write to its directory",
    errno.ENOENT: "; create its directory first",
}


def listen(
    reactor: Any, description: str, factory: IProtocolFactory, backlog: int
) -> IListeningPort:
    """
    Listen where an endpoint string says.

    Args:
        reactor: Twisted's reactor.
        description: For example ``tcp:8001:interface=127.0.0.1``, ``unix:/run/door``.
        factory: What is asked for protocols.
        backlog: How many clients the kernel may keep waiting, unless the string says it.

    Raises:
        ConfigurationError: If that is not possible: one sentence with the address and the reason.
    """
    kind = kind_of(description)
    try:
        _refuse_files(description)
        endpoint = serverFromString(reactor, _with_defaults(description, backlog))
        # A unix socket must not be open to others even for the moment between bind() and chmod().
        # Not earlier: the line before may write Twisted's plug-in cache, which is for everybody.
        umask = os.umask(0o177) if kind == "unix" else None
        try:
            return _port_of(endpoint.listen(factory))
        finally:
            if umask is not None:
                os.umask(umask)
    except Exception as error:
        reason = _reason(error, kind)
        raise ConfigurationError(f"cannot listen on {description}: {reason}") from error


def shown(port: IListeningPort) -> str:
    """Where a port listens: ``127.0.0.1:8001``."""
    return str(address_of(port.getHost()))


def client_string(port: IListeningPort) -> str:
    """The endpoint string with which a client on this machine reaches a port that speaks no TLS."""
    address = address_of(port.getHost())
    if address.family == "unix":
        return f"unix:{quoteStringArgument(address.path)}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"tcp:{quoteStringArgument(host)}:{address.port}"


def kind_of(description: str) -> str:
    """What an endpoint string begins with."""
    unnamed, _ = _parts(description)
    return "".join(unnamed[:1])


def _port_of(listening: Deferred[IListeningPort]) -> IListeningPort:
    found: list[Any] = []
    listening.addBoth(found.append)
    if not found:
        raise ConfigurationError("it does not open at once")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    port: IListeningPort = found[0]
    if not IListeningPort.providedBy(port):
        raise ConfigurationError("nobody could connect to that")
    return port


def _parts(description: str) -> tuple[list[str], dict[str, str]]:
    """The parts of an endpoint string: those without a name, and those with one."""
    unnamed: list[str] = []
    named: dict[str, str] = {}
    rest: str | None = description
    while rest is not None:
        part, rest = cut(rest, ":")
        key, value = cut(part, "=")
        if value is None:
            unnamed.append(unquote(part))
        else:
            named[unquote(key)] = unquote(value)
    return unnamed, named


def _with_defaults(description: str, backlog: int) -> str:
    unnamed, named = _parts(description)
    defaults = {"backlog": str(backlog), "mode": "600"}
    for key, place in _PLACES.get(kind_of(description), {}).items():
        if key not in named and len(unnamed) <= place:
            description += f":{key}={defaults[key]}"
    return description


def _refuse_files(description: str) -> None:
    """Twisted would unlink whatever is at the path, if a stale lock file lies beside it."""
    unnamed, named = _parts(description)
    path = "".join(unnamed[1:2]) or named.get("address", "")
    if kind_of(description) != "unix":
        return
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "a file that is no socket is in the way; move it")


def _reason(error: BaseException, kind: str) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
        if not isinstance(error, OSError):
            # The lock beside a unix socket, which a live process holds.
            error = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if isinstance(error, ImportError):
        return f"{error}; install it with: pip install 'sockproto[tls]'"
    if isinstance(error, OSError):
        said = (error.strerror or str(error)).lower()
        # Of a unix socket's lock, the "file name" is a process id.
        if "/" in str(error.filename):
            return f"{said} {error.filename}"
        advice = _UNIX_ADVICE if kind == "unix" else _ADVICE
        return said + advice.get(error.errno or 0, "")
    if kind == "systemd" and isinstance(error, IndexError | KeyError):
        return "no such socket was passed to us; is LISTEN_FDS set, as sd_listen_fds(3) has it?"
    if isinstance(error, ConfigurationError):
        return str(error)
    said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if type(error).__module__.startswith("OpenSSL"):
        return f"its key and certificate cannot be used: {said}"
    # The names of Twisted's functions say nothing to an operator.
    said = re.sub(r"^\w+\(\) ", "", said)
    return f"{said} (an endpoint is written like tcp:8001:interface=127.0.0.1)"
