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
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory

from sockproto.core.errors import ConfigurationError
from sockproto.transport.facts import address_of

_ADVICE = {
    errno.EADDRINUSE: "; stop whoever listens there, or choose another address",
    errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "; no interface of this machine has that address",
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
    from twisted.internet.endpoints import serverFromString

    found: list[Any] = []
    # A unix socket must not be open to others even for the moment between
    # bind() and chmod().
    umask = os.umask(0o177) if _kind(description) == "unix" else None
    try:
        _refuse_files(description)
        endpoint = serverFromString(reactor, _with_defaults(description, backlog))
        endpoint.listen(factory).addBoth(found.append)
    except Exception as error:
        raise ConfigurationError(f"cannot listen on {description}: {_reason(error)}") from error
    finally:
        if umask is not None:
            os.umask(umask)
    if not found:
        raise ConfigurationError(f"cannot listen on {description}: it does not open at once")
    port = found[0]
    if not IListeningPort.providedBy(port):
        reason = _reason(port.value)
        raise ConfigurationError(f"cannot listen on {description}: {reason}") from port.value
    return port


def shown(port: IListeningPort) -> str:
    """Where a port listens: ``127.0.0.1:8001``."""
    return str(address_of(port.getHost()))


def client_string(port: IListeningPort) -> str:
    """The endpoint string with which a client on this machine reaches a port that speaks no TLS."""
    address = address_of(port.getHost())
    if address.family == "unix":
        return f"unix:{address.path}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return "tcp:{}:{}".format(host.replace(":", "\\:"), address.port)


def _kind(description: str) -> str:
    return description.partition(":")[0]


def _with_defaults(description: str, backlog: int) -> str:
    kind = _kind(description)
    keys = re.findall(r"(?<!\\):(\w+)=", description)
    if kind in ("tcp", "tcp6", "ssl", "unix") and "backlog" not in keys:
        description += f":backlog={backlog}"
    if kind == "unix" and "mode" not in keys:
        description += ":mode=600"
    return description


def _refuse_files(description: str) -> None:
    """Twisted would unlink whatever is at the path, if a stale lock file lies beside it."""
    if _kind(description) != "unix":
        return
    path = re.split(r"(?<!\\):", description)[1].removeprefix("address=").replace("\\", "")
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "a file that is not a socket is in the way")


def _reason(error: BaseException) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, ImportError):
        return f"{error}; install it with: pip install 'sockproto[tls]'"
    if isinstance(error, OSError):
        said = (error.strerror or str(error)).lower()
        # Of a unix socket's lock, the "file name" is a process id.
        of = f" {error.filename}" if "/" in str(error.filename) else ""
        return f"{said}{of}{_ADVICE.get(error.errno or 0, '')}"
    if isinstance(error, IndexError | KeyError):
        return "no such socket was passed to us; is LISTEN_FDS set, as sd_listen_fds(3) has it?"
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{said} (an endpoint is written like tcp:8001:interface=127.0.0.1)"
