"""
The PROXY protocol: what a proxy says first on a connection, about whose it is.

Section numbers are those of its specification, ``doc/proxy-protocol.txt`` of haproxy. A parser here
is silent: bytes go in, a header comes out, and it knows neither connections nor clocks. Two things
it cannot know are left to whoever feeds it: whether *this* peer may be believed, since anybody can
claim any address, and how long to wait.

What a parser decides depends on the bytes and never on how they were cut: it looks at them from the
first one on, whatever the chunk. And what cannot become a header any more is refused at that byte;
a peer that says ``GET /`` is not waited for until it has said sixteen bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Final, Literal

from sockproto.admission.networks import Networks, require_networks
from sockproto.core.errors import LimitExceeded, ProtocolViolation
from sockproto.core.facts import Address

Version = Literal["v1", "v2", "auto"]

MAX_V1_BYTES: Final = 107
"""The longest line there is, CRLF included (section 2.1)."""

MAX_V2_BYTES: Final = 4096
"""
The longest binary header that is read.

Its length field goes up to 64 KiB, but a header is meant to fit into one segment of 536 bytes
(section 2); what TLVs tell of a client's certificate makes that a few times as much.
"""

PP2_TYPE_CRC32C: Final = 0x03
PP2_TYPE_NOOP: Final = 0x04

_SPELLING = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

_LOCAL, _PROXY = 0x20, 0x21
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2

_PREFIX = Struct("!12sBBH")
_TLV = Struct("!BH")
_CHECKSUM = Struct("!I")
_ADDRESSES = {_INET: Struct("!4s4sHH"), _INET6: Struct("!16s16sHH"), _UNIX: Struct("!108s108s")}

# No number begins with a zero that could be taken for an octal one's (section 2.1).
_LINE = re.compile(rb"PROXY TCP([46]) ([^ ]+) ([^ ]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """
    What a proxy has said.

    Attributes:
        source: The client. None if the proxy speaks for itself (``LOCAL``) or cannot tell
            (``UNKNOWN``, ``AF_UNSPEC``); the connection's own addresses then stand.
        destination: What the client has connected to; None where ``source`` is.
        tlvs: What a version 2 header says besides, by type (section 2.2); the last one, if a type
            is repeated. Empty where ``source`` is None.
    """

    source: Address | None = None
    destination: Address | None = None
    tlvs: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProxyPolicy:
    """
    Who has to send a header, and of which version.

    Attributes:
        version: The version; ``"auto"`` takes either.
        allow_from: The proxies. Everybody else is a stranger, whatever it sends.
    """

    version: Version
    allow_from: Networks

    def __post_init__(self) -> None:
        require_networks("allow_from", self.allow_from)


class ProxyParser:
    """
    Reads the header at the beginning of one connection.

    Args:
        version: The one that is wanted; ``"auto"`` lets the first byte decide.

    Attributes:
        expected: What it waits for, in words.
        received: How many bytes it was given.
        unread: The bytes after the header, once there is one.
    """

    __slots__ = ("_held", "_version", "expected", "unread")

    def __init__(self, version: Version) -> None:
        self._version = version
        self._held = b""
        self.expected = "a PROXY header"
        if version != "auto":
            self.expected += f" of version {version[1:]}"
        self.unread = b""

    @property
    def received(self) -> int:
        return len(self._held)

    def receive_data(self, data: bytes) -> ProxyHeader | None:
        """
        Take bytes in.

        Returns:
            The header, or None while it is incomplete. Nothing may be given after a header.

        Raises:
            ProtocolViolation: If this cannot be a header any more.
            LimitExceeded: If it is longer than a header may be.
        """
        self._held += data
        held = self._held
        version = self._version
        if version == "auto":
            version = "v1" if held.startswith(_SPELLING[:1]) else "v2"
        found = (_read_line if version == "v1" else _read_binary)(held, self.expected)
        if found is None:
            return None
        header, size = found
        self.unread = held[size:]
        return header


def v1_header(source: Address, destination: Address) -> bytes:
    """
    The line that tells a backend about a client (section 2.1).

    Args:
        source: The client.
        destination: What it has connected to.
    """
    family = _common_family(source, destination)
    if family not in (_INET, _INET6):
        return b"PROXY UNKNOWN\r\n"
    hosts = [_text(_packed(each, family)) for each in (source, destination)]
    protocol = "TCP4" if family == _INET else "TCP6"
    return f"PROXY {protocol} {' '.join(hosts)} {source.port} {destination.port}\r\n".encode()


def v2_header(source: Address, destination: Address, *, crc: bool = False) -> bytes:
    """
    The binary header that tells a backend about a client (section 2.2).

    Args:
        source: The client.
        destination: What it has connected to.
        crc: Whether a checksum is added (section 2.2.3).
    """
    family = _common_family(source, destination)
    ends = [_packed(each, family) for each in (source, destination)]
    if family in (_INET, _INET6):
        block = _ADDRESSES[family].pack(*ends, source.port, destination.port)
    elif family == _UNIX:
        block = _ADDRESSES[family].pack(*ends)
    else:
        block = b""
    kind = family << 4 | _STREAM if family else _UNSPEC
    tlvs = _TLV.pack(PP2_TYPE_CRC32C, _CHECKSUM.size) + bytes(_CHECKSUM.size) if crc else b""
    header = _PREFIX.pack(_SIGNATURE, _PROXY, kind, len(block) + len(tlvs)) + block + tlvs
    return header[: -_CHECKSUM.size] + _CHECKSUM.pack(crc32c(header)) if crc else header


def crc32c(data: bytes) -> int:
    """The checksum of RFC 9260 appendix A, which is not that of :mod:`zlib`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _read_line(held: bytes, expected: str) -> tuple[ProxyHeader, int] | None:
    """The header of version 1 that begins here, and its size."""
    if not _SPELLING.startswith(held[: len(_SPELLING)]):
        raise ProtocolViolation(expected, held)
    end = held.find(b"\n", 0, MAX_V1_BYTES) + 1
    if not end:
        if len(held) > MAX_V1_BYTES:
            raise LimitExceeded(MAX_V1_BYTES, "the PROXY protocol for a line")
        return None
    line = held[:end]
    # "The receiver must not tolerate a single CR or LF character to end the line."
    if not line.endswith(b"\r\n"):
        raise ProtocolViolation("a PROXY line that ends in CRLF", line)
    # Whatever follows the word UNKNOWN is to be ignored.
    if line.startswith((b"PROXY UNKNOWN ", b"PROXY UNKNOWN\r\n")):
        return ProxyHeader(), end
    header = _parse_line(line[:-2])
    if header is None:
        raise ProtocolViolation("a PROXY line for TCP4, TCP6 or UNKNOWN", line)
    return header, end


def _parse_line(line: bytes) -> ProxyHeader | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    version, *hosts, source_port, destination_port = match.groups()
    ports = int(source_port), int(destination_port)
    if max(ports) > 0xFFFF:
        return None
    family = AF_INET if version == b"4" else AF_INET6
    try:
        # Packed and unpacked, for the one spelling of an address that the kernel has, too.
        ends = [_text(inet_pton(family, host.decode("ascii"))) for host in hosts]
    except (ValueError, OSError):
        return None
    source, destination = map(Address.ip, ends, ports)
    return ProxyHeader(source, destination)


def _read_binary(held: bytes, expected: str) -> tuple[ProxyHeader, int] | None:
    """The header of version 2 that begins here, and its size."""
    if not _SIGNATURE.startswith(held[: len(_SIGNATURE)]):
        raise ProtocolViolation(expected, held)
    command, kind = held[12:13], held[13:14]
    if command and command[0] not in (_LOCAL, _PROXY):
        raise ProtocolViolation("version 2 and LOCAL or PROXY after the signature", command)
    family, protocol = divmod(kind[0], 16) if kind else (_UNSPEC, _UNSPEC)
    # Of a LOCAL command everything but the length is to be ignored.
    local = command == bytes([_LOCAL])
    if not local and (family > _UNIX or protocol > _STREAM):
        raise ProtocolViolation("a stream of a known family in a PROXY header", kind)
    if len(held) < _PREFIX.size:
        return None
    size = _PREFIX.size + _PREFIX.unpack_from(held)[3]
    if size > MAX_V2_BYTES:
        did = f"announced a PROXY header of {size} bytes, more than"
        raise LimitExceeded(MAX_V2_BYTES, "sockproto", did)
    if len(held) < size:
        return None
    # Who says UNSPEC may or may not have put addresses before the TLVs.
    if local or _UNSPEC in (family, protocol):
        return ProxyHeader(), size
    return _parse_binary(family, held[:size]), size


def _parse_binary(family: int, header: bytes) -> ProxyHeader:
    layout = _ADDRESSES[family]
    start = _PREFIX.size + layout.size
    if len(header) < start:
        raise ProtocolViolation(
            f"{layout.size} bytes of addresses in a PROXY header", header[_PREFIX.size :]
        )
    source, destination, *ports = layout.unpack_from(header, _PREFIX.size)
    tlvs = _parse_tlvs(header, start)
    if family == _UNIX:
        return ProxyHeader(_unix(source), _unix(destination), tlvs)
    return ProxyHeader(
        Address.ip(_text(source), ports[0]), Address.ip(_text(destination), ports[1]), tlvs
    )


def _parse_tlvs(header: bytes, at: int) -> dict[int, bytes]:
    tlvs = {}
    while at < len(header):
        begin = at
        at += _TLV.size
        kind, size = _TLV.unpack_from(header, begin) if at <= len(header) else (0, 0)
        value = header[at : at + size]
        at += size
        if at > len(header):
            raise ProtocolViolation("whole TLVs in a PROXY header", header[begin:])
        if kind == PP2_TYPE_CRC32C:
            _verify(header, at - size, value)
        if kind != PP2_TYPE_NOOP:
            tlvs[kind] = value
    return tlvs


def _verify(header: bytes, at: int, value: bytes) -> None:
    """Compare the checksum with that of the header, its own four bytes taken as zeros."""
    size = len(value)
    blank = header[:at] + bytes(size) + header[at + size :]
    if size != _CHECKSUM.size or value != _CHECKSUM.pack(crc32c(blank)):
        raise ProtocolViolation("the right CRC32c in a PROXY header", value)


def _common_family(source: Address, destination: Address) -> int:
    families = {source.family, destination.family}
    if families == {"inet"}:
        return _INET
    if families <= {"inet", "inet6"}:
        return _INET6
    return _UNIX if families == {"unix"} else _UNSPEC


def _packed(address: Address, family: int) -> bytes:
    if family == _UNIX:
        return address.path.encode("utf-8", "surrogateescape")
    if family == _UNSPEC:
        return b""
    if family == _INET:
        return inet_pton(AF_INET, address.host)
    # One end may be IPv4, seen through an IPv6 socket and unmapped; and the interface that a
    # link-local address names means nothing elsewhere.
    mapped = "::ffff:" if address.family == "inet" else ""
    return inet_pton(AF_INET6, mapped + address.host.partition("%")[0])


def _text(packed: bytes) -> str:
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def _unix(padded: bytes) -> Address:
    # A path ends at its first NUL; an abstract name begins with one (unix(7)).
    path = padded.rstrip(b"\0") if padded.startswith(b"\0") else padded.partition(b"\0")[0]
    return Address("unix", path=path.decode("utf-8", "surrogateescape"))


def _crc_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            # The polynomial 0x1EDC6F41, its bits in reverse.
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_CRC_TABLE: Final = _crc_table()
