"""
Endpoint strings, read into plain values.

:func:`describe` reads those that our own listener can open. Any other is somebody else's, Twisted's
or an endpoint plug-in's, and gives None. Where Twisted has the same string, ours takes all that
Twisted's takes, in the same order and with the same quoting.

=================================================  ==============================================
``tcp:PORT:interface=HOST:backlog=N``              IPv4, or IPv6 if the interface is one
``tcp6:PORT:interface=HOST:backlog=N:dual=1``      IPv6, and with ``dual=1`` IPv4 as well
``unix:PATH:mode=600:backlog=N:replace=1``         a file, or after ``@`` an abstract name
``systemd:index=N``, ``systemd:name=NAME``         what systemd has opened, sd_listen_fds(3)
``fd:N:backlog=N``                                 what whoever started us has opened
``tls:PORT:interface=HOST:cert=PATH:key=PATH``     TLS over TCP; the rest is in :class:`TlsFiles`
``udp:PORT:interface=HOST:dual=1``                 datagrams: IPv4, IPv6, or with ``dual=1`` both
``unixgram:PATH:mode=600:replace=1``               datagrams: a file, or an abstract name
=================================================  ==============================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_DGRAM
from typing import Any, Literal, NamedTuple, cast

from sockproto.core.errors import ConfigurationError
from sockproto.core.facts import Address
from sockproto.signatures import cut, unquote
from sockproto.transport import sockets
from sockproto.transport.sockets import Door
from sockproto.transport.tls import Verify

Kind = Literal["tcp", "tcp6", "unix", "systemd", "fd", "tls", "udp", "unixgram"]

DATAGRAMS: tuple[Kind, ...] = ("udp", "unixgram")
"""The kinds that are for datagrams. ``systemd`` and ``fd`` may be, and the others are not."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """
    What TLS is spoken with. The paths are absolute: they are looked at again when the process may
    be in another directory.

    Attributes:
        cert: ``cert=``: the certificate, and its chain after it.
        key: ``key=``: its key; None if that is in the same file.
        client_ca: ``clientCA=``: who vouches for clients.
        verify: ``verify=``: whether they have to be vouched for. If that is not said, they have to
            where it is said by whom.
        alpn: ``alpn=h2,http/1.1``: the protocols on offer (RFC 7301), the best first.
    """

    cert: Path
    key: Path | None = None
    client_ca: Path | None = None
    verify: Verify = "none"
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """
    Where to listen, as an endpoint string says it.

    Attributes:
        kind: What the string begins with.
        port, interface, dual: For ``tcp``, ``tcp6``, ``tls`` and ``udp``.
        address, mode, replace: For ``unix`` and ``unixgram``.
        domain, index, name: For ``systemd``.
        fileno: For ``fd``.
        backlog: How many clients the kernel may keep waiting; None if the string does not say it.
        tls: For ``tls``.
    """

    kind: Kind
    port: int = 0
    interface: str = ""
    dual: bool = False
    address: str = ""
    mode: int | None = None
    replace: bool = False
    domain: str | None = None
    index: int | None = None
    name: str | None = None
    fileno: int = 0
    backlog: int | None = None
    tls: TlsFiles | None = None

    @property
    def takes_datagrams(self) -> bool:
        """Whether it is for datagrams; what was passed to us is asked, if it is there."""
        if self.kind == "fd":
            return sockets.is_datagram_socket(self.fileno)
        if self.kind == "systemd":
            # Without such a socket, its opening says so.
            with suppress(ConfigurationError):
                fileno = sockets.systemd_descriptor(index=self.index, name=self.name)
                return sockets.is_datagram_socket(fileno)
        return self.kind in DATAGRAMS

    def open(self, backlog: int) -> Door:
        """
        Open the door.

        Args:
            backlog: How many clients the kernel may keep waiting, if the string does not say it;
                an inherited socket keeps its own, then.

        Raises:
            ConfigurationError: If that is not possible: the reason, in one sentence.
        """
        if self.kind in DATAGRAMS:
            raise ConfigurationError("no connection comes over datagrams; use listen_datagrams()")
        if self.kind == "systemd":
            return sockets.systemd(
                index=self.index, name=self.name, domain=self.domain, backlog=self.backlog
            )
        if self.kind == "fd":
            return sockets.inherited(self.fileno, backlog=self.backlog)
        if self.backlog is not None:
            backlog = self.backlog
        if self.kind == "unix":
            return sockets.unix(self.address, backlog=backlog, mode=self.mode, replace=self.replace)
        v6 = self.kind == "tcp6"
        return sockets.tcp(self.port, self.interface, backlog=backlog, v6=v6, dual=self.dual)

    def open_for_datagrams(self) -> Door:
        """
        Open the door for datagrams.

        Raises:
            ConfigurationError: If that is not possible: the reason, in one sentence.
        """
        if self.kind == "udp":
            return sockets.udp(self.port, self.interface, dual=self.dual)
        if self.kind == "unixgram":
            return sockets.unixgram(self.address, mode=self.mode, replace=self.replace)
        if self.backlog is not None:
            raise ConfigurationError(
                "a datagram socket accepts nobody, and so has no backlog; leave it out"
            )
        if self.kind == "systemd":
            return sockets.systemd(
                index=self.index, name=self.name, domain=self.domain, kind=SOCK_DGRAM
            )
        if self.kind == "fd":
            return sockets.inherited(self.fileno, kind=SOCK_DGRAM)
        raise ConfigurationError(f"{self.kind} is for connections; {_USE_DATAGRAMS}")


def describe(text: str) -> Description | None:
    """
    Read an endpoint string; None if it is not for our own listener.

    Raises:
        ConfigurationError: If it is, and cannot be read: the reason, in one sentence.
    """
    head, rest = cut(text, ":")
    kind = unquote(head).lower()
    form = _FORMS.get(kind)
    if form is None:
        return None
    pieces = _pieces(rest)
    # Twisted has a tls:PATH:PORT of its own.
    if kind == "tls" and all(piece.name != "cert" for piece in pieces):
        return None
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise form.error("it ends in a backslash that quotes nothing")
    values = _read(kind, form, pieces)
    if kind == "systemd" and ("index" in values) == ("name" in values):
        raise form.error("either its index or its name has to be given")
    if kind == "tls":
        values["tls"] = _take_tls(values)
    # Twisted keeps a lock file beside a unix socket; our lock needs none.
    values.pop("lockfile", None)
    return Description(kind=cast(Kind, kind), **values)


def is_for_datagrams(text: str) -> bool:
    """Whether an endpoint string, right or wrong, is one of :data:`DATAGRAMS`."""
    return unquote(cut(text, ":")[0]).lower() in DATAGRAMS


def opens_for_datagrams(text: str) -> bool:
    """The same of one to listen on, where ``systemd`` and ``fd`` are what was passed to us."""
    if is_for_datagrams(text):
        return True
    # What cannot be read is no better when it is opened, and told then.
    with suppress(ConfigurationError):
        ours = describe(text)
        return ours is not None and ours.takes_datagrams
    return False


def refuse_long_path(text: str) -> None:
    """
    Look at a client's endpoint string of Twisted's: a path that no socket can have breaks Twisted's
    reactor when it connects, and is heard of when the time is over.

    Raises:
        ConfigurationError: If there is such a path: the reason, in one sentence.
    """
    head, rest = cut(text, ":")
    if unquote(head).lower() == "unix":
        for name, path in _pieces(rest):
            if name in (None, "path"):
                sockets.check_length(path)
                return


def client_string(address: Address, tls: bool = False, datagrams: bool = False) -> str:
    """
    The endpoint string with which a client on this machine reaches an address.

    Args:
        address: Where a door is.
        tls: Whether TLS is spoken there.
        datagrams: Whether it is a door for datagrams.
    """
    if address.family == "unix":
        if not datagrams:
            return f"unix:{_quote(address.path)}"
        # Ours, which knows abstract names as they are typed.
        return f"unixgram:{_quote(address.path.replace(chr(0), '@', 1))}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    kind = "udp" if datagrams else "tls" if tls else "tcp"
    return f"{kind}:{_quote(host)}:{address.port}"


class _Piece(NamedTuple):
    """A part of an endpoint string."""

    name: str | None
    text: str


@dataclass(frozen=True, slots=True)
class _Form:
    """
    How a kind of endpoint string is written.

    Attributes:
        usage: An example.
        required: What has to be in it, if anything has.
        order: What may stand there without a name.
        named: What may not.
    """

    usage: str
    required: str | None
    order: tuple[str, ...]
    named: tuple[str, ...] = ()

    def error(self, said: str) -> ConfigurationError:
        return ConfigurationError(f"{said} (an endpoint is written like {self.usage})")


_FORMS: Mapping[str, _Form] = {
    "tcp": _Form("tcp:8001:interface=127.0.0.1", "port", ("port", "interface", "backlog")),
    "tcp6": _Form(
        r"tcp6:8001:interface=\:\:1", "port", ("port", "backlog", "interface"), ("dual",)
    ),
    "unix": _Form(
        "unix:/run/door:mode=660",
        "address",
        ("address", "mode", "backlog", "lockfile"),
        ("replace",),
    ),
    "systemd": _Form(
        "systemd:domain=INET:index=0", None, ("domain", "index", "name"), ("backlog",)
    ),
    "fd": _Form("fd:3", "fileno", ("fileno", "backlog")),
    "tls": _Form(
        "tls:8443:cert=door.pem:key=door.key",
        "port",
        ("port", "interface", "backlog"),
        ("dual", "cert", "key", "clientCA", "verify", "alpn"),
    ),
    "udp": _Form("udp:8001:interface=127.0.0.1", "port", ("port", "interface"), ("dual",)),
    "unixgram": _Form("unixgram:/run/door:mode=660", "address", ("address", "mode"), ("replace",)),
}

_USE_DATAGRAMS = f"write {_FORMS['udp'].usage} or {_FORMS['unixgram'].usage}"


def _pieces(rest: str | None) -> list[_Piece]:
    pieces = []
    while rest is not None:
        piece, rest = cut(rest, ":")
        key, value = cut(piece, "=")
        if value is None:
            pieces.append(_Piece(None, unquote(piece)))
        else:
            pieces.append(_Piece(unquote(key), unquote(value)))
    return pieces


def _read(kind: str, form: _Form, pieces: list[_Piece]) -> dict[str, Any]:
    known = form.order + form.named
    places = iter(form.order)
    values: dict[str, Any] = {}
    for name, text in pieces:
        key = next(places, None) if name is None else name
        if key is None:
            raise form.error(f"{kind} has at most {len(form.order)} parts without a name")
        if key not in known:
            raise form.error(f"{kind} has no {key!r}, but {', '.join(known)}")
        if key in values:
            raise form.error(f"its {key} is given twice")
        if name == "interface" and not text:
            # Perhaps "interface=$ADDRESS", and no ADDRESS. Every address would let everybody in.
            raise form.error("its interface is empty; name an address, or leave it out for all")
        convert, words = _VALUES[key]
        try:
            values[key] = convert(text)
        except (ValueError, KeyError):
            raise form.error(f"its {key} {text!r} is not {words}") from None
    if form.required and form.required not in values:
        raise form.error(f"its {form.required} is missing")
    return values


def _take_tls(values: dict[str, Any]) -> TlsFiles:
    client_ca = values.pop("clientCA", None)
    return TlsFiles(
        cert=values.pop("cert"),
        key=values.pop("key", None),
        client_ca=client_ca,
        verify=values.pop("verify", "required" if client_ca else "none"),
        alpn=values.pop("alpn", ()),
    )


def _whole(least: int, most: int, base: int = 10) -> Callable[[str], int]:
    def convert(text: str) -> int:
        number = int(text, base)
        if not least <= number <= most:
            raise ValueError
        return number

    return convert


def _path(text: str) -> Path:
    # Path("") is the working directory, which nobody means by "cert=".
    if not text:
        raise ValueError
    return Path(text).absolute()


def _protocols(text: str) -> tuple[str, ...]:
    protocols = tuple(text.split(","))
    # RFC 7301 section 3.1: a name has from 1 to 255 bytes.
    if not all(each.isascii() and 0 < len(each) < 256 for each in protocols):
        raise ValueError
    return protocols


def _one_of(*words: str) -> tuple[Callable[[str], str], str]:
    def convert(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return convert, f"{', '.join(words[:-1])} or {words[-1]}"


_MOST = 2**31 - 1
_TEXT: tuple[Callable[[str], Any], str] = (str, "text")
_COUNT = (_whole(0, _MOST), f"a whole number from 0 to {_MOST}")
_SWITCH = ({"0": False, "1": True}.__getitem__, "0 or 1")
_FILE = (_path, "a path")

_VALUES: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "port": (_whole(0, 65535), "a whole number from 0 to 65535"),
    "interface": _TEXT,
    "backlog": (_whole(1, _MOST), f"a whole number from 1 to {_MOST}"),
    "dual": _SWITCH,
    "address": _TEXT,
    "mode": (_whole(0, 0o777, 8), "an octal number from 0 to 777"),
    "lockfile": _SWITCH,
    "replace": _SWITCH,
    "domain": _one_of("INET", "INET6", "UNIX"),
    "index": _COUNT,
    "name": _TEXT,
    "fileno": _COUNT,
    "cert": _FILE,
    "key": _FILE,
    "clientCA": _FILE,
    "verify": _one_of("none", "optional", "required"),
    "alpn": (_protocols, "a list of names such as h2,http/1.1"),
}
"""How the text of each becomes a value, and what to say if it does not."""


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")
