import pytest

from sockproto.transport.closing import say_goodbye


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
    say_goodbye(door, b"bye", linger=False)

    assert door.told == [b"bye", "close"]


def test_whoever_may_still_talk_is_replied_to_and_half_closed(door):
    say_goodbye(door, b"bye", linger=True)

    assert door.told == [b"bye", "half-close"]


def test_an_empty_reply_is_not_written(door):
    say_goodbye(door, b"", linger=True)

    assert door.told == ["half-close"]
