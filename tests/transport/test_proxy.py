"""The PROXY protocol, by the bytes of its specification and by the word of two other parsers."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from struct import pack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from proxyprotocol.result import is_ipv4, is_ipv6, is_unix
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2
from twisted.internet.address import UNIXAddress
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser

from sockproto.admission.networks import Networks
from sockproto.core.errors import LimitExceeded, PeerError, ProtocolViolation
from sockproto.core.facts import Address
from sockproto.testing import every_cut
from sockproto.transport.proxy import (
    MAX_V1_BYTES,
    MAX_V2_BYTES,
    PP2_TYPE_CRC32C,
    PP2_TYPE_NOOP,
    ProxyHeader,
    ProxyParser,
    ProxyPolicy,
    crc32c,
    v1_header,
    v2_header,
)

unhurried = settings(deadline=None)

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"

CLIENT = Address("inet", "192.0.2.1", 56324)
DOOR = Address("inet", "198.51.100.7", 443)
CLIENT6 = Address("inet6", "2001:db8::1", 56324)
DOOR6 = Address("inet6", "2001:db8::7", 443)
TOLD = ProxyHeader(CLIENT, DOOR)
TOLD6 = ProxyHeader(CLIENT6, DOOR6)
NOBODY = ProxyHeader()

INET = bytes([192, 0, 2, 1, 198, 51, 100, 7]) + pack("!HH", 56324, 443)
INET6 = IPv6Address("2001:db8::1").packed + IPv6Address("2001:db8::7").packed + INET[8:]


def v2(block=b"", *, command=0x21, kind=0x11):
    """A header of version 2, byte for byte as section 2.2 has it."""
    return SIGNATURE + bytes([command, kind]) + pack("!H", len(block)) + block


def tlv(kind, value=b""):
    return pack("!BH", kind, len(value)) + value


def parse(data, version="auto"):
    """
    The header and what is unread; None if more is needed. The same for every cut, or the same
    error; of an error that shows bytes, how many it shows may differ.
    """
    first, *others = [_play(cut, version) for cut in every_cut(data, random_cuts=20)]
    for other in others:
        assert other[0] == first[0]
        assert type(other[1]) is type(first[1])
        assert _told(other[1]) == _told(first[1])
    found, error = first
    if error is not None:
        raise error
    return found


def _play(cut, version):
    parser = ProxyParser(version)
    chunks = iter(cut)
    for chunk in chunks:
        try:
            header = parser.receive_data(chunk)
        except PeerError as error:
            return None, error
        if header is not None:
            return (header, parser.unread + b"".join(chunks)), None
        assert parser.unread == b""
    return None, None


def _told(error):
    return error.expected if isinstance(error, ProtocolViolation) else str(error)


def refusal(data, version="auto"):
    """The words of the error that these bytes are, whatever the cut."""
    with pytest.raises(PeerError) as caught:
        parse(data, version)
    return str(caught.value)


# Version 1


@pytest.mark.parametrize("version", ["v1", "auto"])
@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", TOLD),
        (b"PROXY TCP6 2001:db8::1 2001:db8::7 56324 443\r\n", TOLD6),
        (b"PROXY TCP6 2001:0DB8:0::0001 2001:DB8:0:0:0:0:0:7 56324 443\r\n", TOLD6),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6407 56324 443\r\n", TOLD),
        (b"PROXY UNKNOWN\r\n", NOBODY),
        (b"PROXY UNKNOWN \r\n", NOBODY),
        (b"PROXY UNKNOWN 192.0.2.1 198.51.100.7 56324 443\r\n", NOBODY),
        (b"PROXY UNKNOWN what\rever \xff it is\r\n", NOBODY),
    ],
)
def test_a_line_is_read_whatever_the_cut(line, header, version):
    assert parse(line, version) == (header, b"")
    assert parse(line + b"\r\nhello\n", version) == (header, b"\r\nhello\n")
    assert parse(line[:-1], version) is None


def test_the_outermost_ports_and_addresses_are_read():
    line = b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"

    ends = Address("inet", "0.0.0.0", 0), Address("inet", "255.255.255.255", 65535)
    assert parse(line) == (ProxyHeader(*ends), b"")


def test_the_longest_line_is_read_and_a_longer_one_is_too_much():
    longest = b"PROXY UNKNOWN" + b" ffff:f" * 13
    longest = longest[: MAX_V1_BYTES - 2].ljust(MAX_V1_BYTES - 2, b"f")

    assert len(longest + b"\r\n") == 107
    assert parse(longest + b"\r\n", "v1") == (NOBODY, b"")
    assert parse(longest + b"\r", "v1") is None
    assert parse(longest + b"ff", "v1") is None
    assert refusal(longest + b"f\r\n", "v1") == (
        "peer sent more than 107 bytes, the limit set by the PROXY protocol for a line"
    )
    with pytest.raises(LimitExceeded):
        ProxyParser("v1").receive_data(longest + b"f\r\n")


@pytest.mark.parametrize(
    "text",
    [
        "TCP4 192.0.2.1 198.51.100.7 56324",
        "TCP4 192.0.2.1 198.51.100.7 56324 443 ",
        "TCP4 192.0.2.1 198.51.100.7 56324 443 1",
        "TCP4 192.0.2.1  198.51.100.7 56324 443",
        " TCP4 192.0.2.1 198.51.100.7 56324 443",
        "TCP4\t192.0.2.1 198.51.100.7 56324 443",
        "TCP4 192.0.2.1 198.51.100.7 056324 443",
        "TCP4 192.0.2.1 198.51.100.7 56324 00",
        "TCP4 192.0.2.1 198.51.100.7 65536 443",
        "TCP4 192.0.2.1 198.51.100.7 56324 65536",
        "TCP4 192.0.2.1 198.51.100.7 -1 443",
        "TCP4 192.0.2.1 198.51.100.7 +1 443",
        "TCP4 192.0.2.1 198.51.100.7 5_6 443",
        "TCP4 192.0.2.01 198.51.100.7 56324 443",
        "TCP4 192.0.2.256 198.51.100.7 56324 443",
        "TCP4 192.0.2 198.51.100.7 56324 443",
        "TCP4 192.0.2.1\0 198.51.100.7 56324 443",
        "TCP4 192.0.2.\u0661 198.51.100.7 56324 443",
        "TCP4 2001:db8::1 2001:db8::7 56324 443",
        "TCP6 192.0.2.1 198.51.100.7 56324 443",
        "TCP6 2001:db8::1 198.51.100.7 56324 443",
        "TCP6 fe80::1%lo fe80::2%lo 56324 443",
        "TCP6 2001:db8::00001 2001:db8::7 56324 443",
        "TCP6 1:2:3:4:5:6:7 2001:db8::7 56324 443",
        "UDP4 192.0.2.1 198.51.100.7 56324 443",
        "tcp4 192.0.2.1 198.51.100.7 56324 443",
        "UNKNOWNS",
        "TCP4",
        "",
    ],
)
def test_a_line_that_is_not_exactly_so_is_refused(text):
    line = f"PROXY {text}\r\n".encode()
    shown = repr(line) if len(line) <= 32 else f"{line[:32]!r}..."

    assert refusal(line) == f"expected a PROXY line for TCP4, TCP6 or UNKNOWN, got {shown}"


@pytest.mark.parametrize("end", [b"\n", b"\n\r", b" \n"])
@pytest.mark.parametrize("line", [b"PROXY UNKNOWN", b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10"])
def test_a_single_lf_does_not_end_a_line(line, end):
    assert refusal(line + end + b"\r\n").startswith("expected a PROXY line that ends in CRLF, got")


def test_a_single_cr_does_not_end_a_line():
    line = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r"

    assert parse(line) is None
    assert refusal(line + b"hello\r\n").startswith("expected a PROXY line for TCP4, TCP6 or UNK")


# Version 2


@pytest.mark.parametrize("version", ["v2", "auto"])
@pytest.mark.parametrize(
    ("data", "header"),
    [
        (v2(INET), TOLD),
        (v2(INET6, kind=0x21), TOLD6),
        (v2(command=0x20, kind=0x00), NOBODY),
        (v2(command=0x20, kind=0xFF), NOBODY),
        (v2(INET + tlv(1, b"h2"), command=0x20), NOBODY),
        (v2(b"whatever", command=0x20), NOBODY),
        (v2(kind=0x00), NOBODY),
        (v2(b"whatever", kind=0x00), NOBODY),
        (v2(b"whatever", kind=0x01), NOBODY),
        (v2(INET, kind=0x10), NOBODY),
        (v2(b"", kind=0x30), NOBODY),
    ],
)
def test_a_binary_header_is_read_whatever_the_cut(data, header, version):
    assert parse(data, version) == (header, b"")
    assert parse(data + SIGNATURE, version) == (header, SIGNATURE)
    assert parse(data[:-1], version) is None


def test_mapped_addresses_are_unmapped():
    ends = [IPv6Address(f"::ffff:{host}").packed for host in ("192.0.2.1", "198.51.100.7")]

    assert parse(v2(b"".join(ends) + INET[8:], kind=0x21)) == (TOLD, b"")


@pytest.mark.parametrize(
    ("padded", "path"),
    [
        (b"", ""),
        (b"/run/door.sock", "/run/door.sock"),
        (b"/run/door.sock\0left over", "/run/door.sock"),
        (b"/" + b"x" * 107, "/" + "x" * 107),
        (b"\0door", "\0door"),
        (b"\0do\0or", "\0do\0or"),
        (b"/run/\xff", "/run/\udcff"),
    ],
)
def test_unix_sockets_are_read(padded, path):
    block = padded.ljust(108, b"\0") + b"/run/other".ljust(108, b"\0")
    ends = Address("unix", path=path), Address("unix", path="/run/other")

    assert parse(v2(block, kind=0x31)) == (ProxyHeader(*ends), b"")


def test_tlvs_are_given_by_type():
    tlvs = tlv(1, b"h2") + tlv(2, b"door.example") + tlv(0xE0) + tlv(0x20, bytes(300))

    found, unread = parse(v2(INET + tlvs) + b"x")
    assert found == ProxyHeader(
        CLIENT, DOOR, {1: b"h2", 2: b"door.example", 0xE0: b"", 0x20: bytes(300)}
    )
    assert unread == b"x"


def test_padding_is_skipped():
    tlvs = tlv(PP2_TYPE_NOOP, b"....") + tlv(1, b"h2") + tlv(PP2_TYPE_NOOP)

    assert parse(v2(INET + tlvs)) == (ProxyHeader(CLIENT, DOOR, {1: b"h2"}), b"")


def test_the_last_tlv_of_a_type_stands():
    assert parse(v2(INET + tlv(1, b"h2") + tlv(1, b"h3"))) == (
        ProxyHeader(CLIENT, DOOR, {1: b"h3"}),
        b"",
    )


@pytest.mark.parametrize("area", [b"\x01", b"\x01\0", b"\x01\0\x01", tlv(1, b"h2")[:-1]])
def test_a_tlv_that_is_cut_short_is_refused(area):
    assert refusal(v2(INET + tlv(2, b"x") + area)) == (
        f"expected whole TLVs in a PROXY header, got {area!r}"
    )


@pytest.mark.parametrize("before", [b"", tlv(1, b"h2")])
@pytest.mark.parametrize("after", [b"", tlv(2, b"door")])
def test_a_checksum_is_verified_wherever_it_stands(before, after):
    blank = v2(INET + before + tlv(PP2_TYPE_CRC32C, bytes(4)) + after)
    right = pack("!I", crc32c(blank))
    at = len(v2(INET)) + len(before) + 3
    checked = blank[:at] + right + blank[at + 4 :]

    header, _ = parse(checked)
    assert header.tlvs[PP2_TYPE_CRC32C] == right
    assert refusal(blank) == (
        "expected the right CRC32c in a PROXY header, got b'\\x00\\x00\\x00\\x00'"
    )
    for place in [*range(16, 16 + len(INET)), *range(at, at + 4)]:
        assert refusal(_change(checked, [(place, checked[place] ^ 0x40)])).startswith(
            "expected the right CRC32c in a PROXY header, got"
        )


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_checksum_of_another_size_is_refused(size):
    assert refusal(v2(INET + tlv(PP2_TYPE_CRC32C, bytes(size)))) == (
        f"expected the right CRC32c in a PROXY header, got {bytes(size)!r}"
    )


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        # RFC 3720 appendix B.4.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_the_checksum_is_crc32c(data, checksum):
    assert crc32c(data) == checksum


@pytest.mark.parametrize("command", [0x00, 0x10, 0x11, 0x22, 0x2F, 0x31, 0xFF])
def test_another_version_or_command_is_refused_at_its_byte(command):
    data = v2(INET, command=command)[:13]

    assert refusal(data) == (
        "expected version 2 and LOCAL or PROXY after the signature, got " + repr(bytes([command]))
    )


@pytest.mark.parametrize(
    "kind",
    [0x02, 0x12, 0x22, 0x32, 0x13, 0x1F, 0x40, 0x41, 0xF1, 0xFF],
)
def test_datagrams_and_families_that_do_not_exist_are_refused_at_their_byte(kind):
    data = v2(INET, kind=kind)[:14]

    assert refusal(data) == (
        "expected a stream of a known family in a PROXY header, got " + repr(bytes([kind]))
    )


@pytest.mark.parametrize(("kind", "size"), [(0x11, 12), (0x21, 36), (0x31, 216)])
def test_addresses_that_do_not_fit_are_refused(kind, size):
    assert refusal(v2(bytes(size - 1), kind=kind)).startswith(
        f"expected {size} bytes of addresses in a PROXY header, got b'\\x00"
    )
    header, unread = parse(v2(bytes(size), kind=kind) + b"x")
    assert header.source is not None
    assert unread == b"x"


def test_the_longest_header_is_read_and_a_longer_one_is_too_much_before_it_arrives():
    room = MAX_V2_BYTES - 16 - len(INET) - 3
    header, _ = parse(v2(INET + tlv(1, bytes(room))), "v2")
    assert header.tlvs == {1: bytes(room)}

    assert refusal(v2(INET + tlv(1, bytes(room + 1)))[:16]) == (
        "peer announced a PROXY header of 4097 bytes, more than 4096 bytes, "
        "the limit set by sockproto"
    )
    with pytest.raises(LimitExceeded):
        ProxyParser("v2").receive_data(v2(bytes(65535))[:16])


# What is no header at all


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("v1", "a PROXY header of version 1"),
        ("v2", "a PROXY header of version 2"),
        ("auto", "a PROXY header"),
    ],
)
@pytest.mark.parametrize(
    ("data", "guess"),
    [
        (b"GET / HTTP/1.1\r\n", "; is this an HTTP client?"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "; is this an SSH client?"),
        (b"\x16\x03\x01\x02\0", "; is this a TLS client?"),
        (b"1", ""),
        (b"\0", ""),
    ],
)
def test_a_stranger_is_refused_at_its_first_byte(version, expected, data, guess):
    assert refusal(data, version) == f"expected {expected}, got {data!r}{guess}"
    assert refusal(data[:1], version) == f"expected {expected}, got {data[:1]!r}"


@pytest.mark.parametrize("start", [SIGNATURE, b"PROXY "])
def test_a_wrong_byte_is_refused_at_once_wherever_it_stands(start):
    for place in range(len(start)):
        parser = ProxyParser("auto")
        if place:
            assert parser.receive_data(start[:place]) is None
        with pytest.raises(ProtocolViolation):
            parser.receive_data(b"?")


@pytest.mark.parametrize(("version", "other"), [("v1", v2(INET)), ("v2", b"PROXY UNKNOWN\r\n")])
def test_the_other_version_is_refused(version, other):
    assert refusal(other[:1], version) == (
        f"expected a PROXY header of version {version[1:]}, got {other[:1]!r}"
    )


def test_nothing_is_known_before_the_first_byte():
    parser = ProxyParser("auto")

    assert parser.receive_data(b"") is None
    assert parser.received == 0


def test_a_parser_says_what_it_waits_for_and_how_much_it_has():
    parser = ProxyParser("v1")
    parser.receive_data(b"PROXY TC")

    assert parser.expected == "a PROXY header of version 1"
    assert parser.received == 8


def test_a_policy_is_a_value():
    proxies = Networks.parse("192.0.2.0/24")

    assert ProxyPolicy("v2", proxies) == ProxyPolicy("v2", Networks.parse("192.0.2.0/24"))
    assert CLIENT in ProxyPolicy("v2", proxies).allow_from
    with pytest.raises(AttributeError):
        ProxyPolicy("v2", proxies).version = "v1"


# The sender's side


@pytest.mark.parametrize(
    ("source", "destination", "line"),
    [
        (CLIENT, DOOR, b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"),
        (CLIENT6, DOOR6, b"PROXY TCP6 2001:db8::1 2001:db8::7 56324 443\r\n"),
        (CLIENT, DOOR6, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::7 56324 443\r\n"),
        (
            Address("inet6", "fe80::1%lo", 1),
            Address("inet6", "fe80::2%lo", 2),
            b"PROXY TCP6 fe80::1 fe80::2 1 2\r\n",
        ),
        (Address("unix", path="/run/door"), Address("unix"), b"PROXY UNKNOWN\r\n"),
        (Address("memory"), Address("memory"), b"PROXY UNKNOWN\r\n"),
        (CLIENT, Address("unix"), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_a_line_is_written(source, destination, line):
    assert v1_header(source, destination) == line


@pytest.mark.parametrize(
    ("source", "destination", "header"),
    [
        (CLIENT, DOOR, v2(INET)),
        (CLIENT6, DOOR6, v2(INET6, kind=0x21)),
        (
            CLIENT,
            DOOR6,
            v2(IPv6Address("::ffff:192.0.2.1").packed + INET6[16:], kind=0x21),
        ),
        (
            Address("unix", path="/run/\udcff"),
            Address("unix", path="\0door"),
            v2(b"/run/\xff".ljust(108, b"\0") + b"\0door".ljust(108, b"\0"), kind=0x31),
        ),
        (Address("memory"), Address("memory"), v2(kind=0x00)),
        (CLIENT, Address("unix"), v2(kind=0x00)),
    ],
)
def test_a_binary_header_is_written(source, destination, header):
    assert v2_header(source, destination) == header


def test_a_checksum_is_written():
    header = v2_header(CLIENT, DOOR, crc=True)
    blank = v2(INET + tlv(PP2_TYPE_CRC32C, bytes(4)))

    assert header == blank[:-4] + pack("!I", crc32c(blank))
    assert v2_header(Address("memory"), DOOR, crc=True)[:16] == v2(bytes(7), kind=0x00)[:16]


# What is written is read, here and elsewhere

ports = st.integers(0, 0xFFFF)
inet = st.builds(Address.ip, st.ip_addresses(v=4).map(str), ports)
inet6 = st.builds(Address.ip, st.ip_addresses(v=6).map(str), ports)
ends = st.tuples(inet, inet) | st.tuples(inet6, inet6) | st.tuples(inet, inet6)
paths = st.binary(max_size=108).map(lambda path: path.replace(b"\0", b""))
unix = st.builds(lambda path: Address("unix", path=path.decode("utf-8", "surrogateescape")), paths)


@unhurried
@given(ends, st.binary(max_size=40))
def test_a_line_that_was_written_is_read(ends, more):
    assert parse(v1_header(*ends) + more) == (ProxyHeader(*ends), more)


@unhurried
@given(ends | st.tuples(unix, unix), st.booleans(), st.binary(max_size=40))
def test_a_binary_header_that_was_written_is_read(ends, crc, more):
    parser = ProxyParser("auto")
    header = parser.receive_data(v2_header(*ends, crc=crc) + more)

    assert (header.source, header.destination) == ends
    assert set(header.tlvs) == ({PP2_TYPE_CRC32C} if crc else set())
    assert parser.unread == more


def theirs(address):
    """An address of Twisted's as ours; theirs writes an IPv6 one out."""
    if isinstance(address, UNIXAddress):
        return Address("unix", path=address.name.decode("utf-8", "surrogateescape"))
    spell = IPv6Address if ":" in address.host else IPv4Address
    return Address.ip(str(spell(address.host)), address.port)


def same(one, other):
    """Whether two addresses are one, whatever their spelling."""
    if one.family == "unix":
        return one == other
    spell = IPv6Address if one.family == "inet6" else IPv4Address
    return (spell(one.host), one.port) == (spell(other.host), other.port)


@unhurried
@given(ends)
def test_twisted_reads_our_line(ends):
    info, rest = V1Parser().feed(v1_header(*ends) + b"x")

    assert rest == b"x"
    assert same(theirs(info.source), ends[0])
    assert same(theirs(info.destination), ends[1])


@unhurried
@given(ends | st.tuples(unix, unix), st.booleans())
def test_twisted_reads_our_binary_header(ends, crc):
    info, rest = V2Parser().feed(v2_header(*ends, crc=crc) + b"x")

    assert rest == b"x"
    assert same(theirs(info.source), ends[0])
    assert same(theirs(info.destination), ends[1])


def damaged(whole):
    """Headers with a byte or two that are something else."""
    change = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))
    return st.lists(change, min_size=1, max_size=2).map(lambda changes: _change(whole, changes))


def _change(whole, changes):
    data = bytearray(whole)
    for place, byte in changes:
        data[place] = byte
    return bytes(data)


@unhurried
@given(damaged(v1_header(CLIENT, DOOR)) | damaged(v1_header(CLIENT6, DOOR6)))
def test_twisted_takes_every_line_that_we_take(line):
    parser = ProxyParser("v1")
    try:
        header = parser.receive_data(line)
    except PeerError:
        return
    info, rest = V1Parser().feed(line)
    if header is None:
        assert info is None
        return
    assert rest == parser.unread
    assert same(theirs(info.source), header.source)
    assert same(theirs(info.destination), header.destination)


@unhurried
@given(damaged(v2_header(CLIENT, DOOR, crc=True)) | damaged(v2_header(CLIENT6, DOOR6)))
@example(v2(INET, command=0x20))
@example(v2(INET, kind=0x10))
def test_twisted_takes_every_binary_header_that_we_take(data):
    parser = ProxyParser("v2")
    try:
        header = parser.receive_data(data)
    except PeerError:
        return
    info, rest = V2Parser().feed(data)
    if header is None:
        assert info is None
        return
    assert rest == parser.unread
    if header.source is None:
        assert info.source is None
        return
    assert same(theirs(info.source), header.source)
    assert same(theirs(info.destination), header.destination)


def second_opinion(result):
    """What the package ``proxy-protocol`` has read."""
    assert result.proxied
    if is_unix(result):
        return [Address("unix", path=path) for path in (result.source, result.dest)]
    assert is_ipv4(result) or is_ipv6(result)
    return [Address.ip(str(host), port) for host, port in (result.source, result.dest)]


@unhurried
@given(ends)
def test_a_second_opinion_on_our_line_is_the_same(ends):
    found = second_opinion(ProxyProtocolV1().unpack(v1_header(*ends)))

    assert all(map(same, found, ends))


@unhurried
@given(ends, st.booleans())
def test_a_second_opinion_on_our_binary_header_is_the_same(ends, crc):
    result = ProxyProtocolV2().unpack(v2_header(*ends, crc=crc))

    assert all(map(same, second_opinion(result), ends))
    assert (result.tlv.crc32c is not None) is crc


@unhurried
@given(ends)
def test_what_a_second_sender_writes_is_read(ends):
    for crc in (False, True):
        result = ProxyProtocolV2().unpack(v2_header(*ends, crc=crc))
        header = ProxyParser("v2").receive_data(ProxyProtocolV2().pack(result))

        assert (header.source, header.destination) == ends
        assert (PP2_TYPE_CRC32C in header.tlvs) is crc


def test_a_second_opinion_on_unix_sockets_is_the_same():
    ends = [Address("unix", path="/run/client"), Address("unix", path="\0door")]

    assert second_opinion(ProxyProtocolV2().unpack(v2_header(*ends))) == ends


@unhurried
@given(st.sampled_from(["v1", "v2", "auto"]), st.binary(max_size=40))
@example("v2", SIGNATURE)
@example("v1", b"PROXY \n")
def test_bytes_at_random_are_one_verdict_whatever_the_cut(version, data):
    with suppress(PeerError):
        parse(data, version)
