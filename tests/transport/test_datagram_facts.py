import errno
import os
import socket
from contextlib import closing

import pytest

from sockproto.core.facts import Address
from sockproto.transport.datagram_facts import (
    IP_PKTINFO,
    Envelope,
    ask_for_more,
    local_address,
    read_envelope,
    room_for,
)

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def arrives(family, place, send_to=None, data=b"1", ancillary=(), early=False):
    """
    The ancillary data with which a datagram arrives at a socket that is bound to a place.

    It may come early, before the kernel is asked for more.
    """
    receiving = socket.socket(family, socket.SOCK_DGRAM)
    sending = socket.socket(family, socket.SOCK_DGRAM)
    with closing(receiving), closing(sending):
        if not early:
            ask_for_more(receiving)
        receiving.bind(place)
        where = receiving.getsockname()
        if send_to is not None:
            where = (send_to, where[1])
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sending.sendmsg([data], ancillary, 0, where)
        if early:
            ask_for_more(receiving)
        receiving.settimeout(10)
        _, came_along, _, _ = receiving.recvmsg(100, room_for(receiving))
        return came_along


to_each_of_our_addresses = pytest.mark.parametrize(
    ("family", "host", "found"),
    [
        (socket.AF_INET, "127.0.0.3", "127.0.0.3"),
        pytest.param(socket.AF_INET6, "::1", "::1", marks=pytest.mark.ipv6),
        # Of a socket for both.
        (socket.AF_INET6, "::ffff:127.0.0.4", "127.0.0.4"),
    ],
)


@to_each_of_our_addresses
def test_it_is_told_which_of_our_addresses_a_datagram_came_to(family, host, found):
    envelope = read_envelope(arrives(family, ("", 0), host))

    assert (envelope.host, envelope.to_many, envelope.uid) == (found, False, None)
    [(level, _, _)] = envelope.answer
    assert level == (socket.IPPROTO_IPV6 if found == "::1" else socket.IPPROTO_IP)


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.255.255.255"), (socket.AF_INET6, "::ffff:127.255.255.255")],
)
def test_what_was_sent_to_everybody_is_told_apart(family, host):
    envelope = read_envelope(arrives(family, ("", 0), host))

    assert envelope.to_many


@to_each_of_our_addresses
def test_what_came_before_the_kernel_was_asked_was_sent_to_us_alone(family, host, found):
    envelope = read_envelope(arrives(family, ("", 0), host, early=True))

    assert (envelope.host, envelope.to_many) == (found, False)


def test_to_what_was_sent_to_everybody_before_that_there_is_no_address_to_answer_from():
    envelope = read_envelope(arrives(socket.AF_INET, ("", 0), "127.255.255.255", early=True))

    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as answering:
        with pytest.raises(OSError) as caught:
            answering.sendmsg([b""], envelope.answer, 0, ("127.0.0.1", 9))
        assert caught.value.errno == errno.ENETUNREACH


def test_nobody_vouches_for_who_sent_before_the_kernel_was_asked(tmp_path):
    came_along = arrives(socket.AF_UNIX, str(tmp_path / "door"), early=True)

    assert read_envelope(came_along) == Envelope(uid=None)


def test_what_was_sent_to_a_group_is_told_apart():
    group = socket.inet_pton(socket.AF_INET6, "ff02::1")

    envelope = read_envelope(
        [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, group + (1).to_bytes(4, "little"))]
    )

    assert envelope.to_many


def test_a_unix_socket_tells_the_user_of_the_sender(tmp_path):
    came_along = arrives(socket.AF_UNIX, str(tmp_path / "door"))

    assert read_envelope(came_along) == Envelope(uid=os.getuid())


def test_a_descriptor_that_is_passed_along_does_not_become_ours(tmp_path):
    before = sorted(os.listdir("/proc/self/fd"))
    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, (0).to_bytes(4, "little"))]

    came_along = arrives(socket.AF_UNIX, str(tmp_path / "door"), ancillary=passed)

    assert read_envelope(came_along) == Envelope(uid=os.getuid())
    assert len(came_along) == 1
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "ancillary",
    [
        [],
        [(socket.IPPROTO_IP, 77, b"")],
        [(socket.IPPROTO_IPV6, IP_PKTINFO, b"")],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, bytes(4))],
    ],
)
def test_what_is_not_told_or_not_known_is_left_blank(ancillary):
    assert read_envelope(ancillary) == Envelope()


def test_the_sender_has_found_us_where_its_datagram_came_to():
    bound = Address("inet6", "::", 80)

    assert local_address(Envelope("::ffff:192.0.2.1"), bound) == Address("inet", "192.0.2.1", 80)
    assert local_address(Envelope(), bound) == bound
