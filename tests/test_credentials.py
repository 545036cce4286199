from __future__ import annotations

import os
import socket

from sockproto.credentials import uid_of


def test_the_other_end_of_a_unix_socket_is_a_user():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert uid_of(one) == os.getuid()


def test_what_is_no_socket_tells_nothing():
    assert uid_of(object()) is None


def test_a_socket_that_is_gone_tells_nothing():
    gone = socket.socket(socket.AF_UNIX)
    gone.close()

    assert uid_of(gone) is None
