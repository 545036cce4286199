import pytest

from sockproto.transport.closing import Closing


class Door:
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def write(self, data):
        self.told.append(data)

    def half_close(self):
        self.told.append("half-close")

    def close(self):
        self.told.append("close")

    def abort(self):
        self.told.append("abort")


@pytest.fixture
def door():
    return Door()


def test_whoever_has_finished_is_replied_to_and_closed_at_once(door):
    Closing(door, b"bye", linger=False)

    assert door.told == [b"bye", "close"]


def test_whoever_may_still_talk_is_replied_to_and_half_closed(door):
    Closing(door, b"bye", linger=True)

    assert door.told == [b"bye", "half-close"]


def test_an_empty_reply_is_not_written(door):
    Closing(door, b"", linger=True)

    assert door.told == ["half-close"]


def test_the_end_of_the_peer_closes(door):
    Closing(door, b"bye", linger=True).eof_received()

    assert door.told == [b"bye", "half-close", "close"]


def test_the_bound_aborts(door):
    Closing(door, b"bye", linger=True).deadline_passed()

    assert door.told == [b"bye", "half-close", "abort"]


def test_the_bound_aborts_a_close_that_does_not_finish_either(door):
    Closing(door, b"bye", linger=False).deadline_passed()

    assert door.told == [b"bye", "close", "abort"]
