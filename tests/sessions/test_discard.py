"""Reading everything, keeping nothing."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.testing import StringTransport

from sockproto.sessions.discard import Discard


@pytest.fixture
def transport() -> StringTransport:
    return StringTransport()


@pytest.fixture
def discard(transport: StringTransport) -> Discard:
    discard = Discard()
    discard.makeConnection(transport)
    return discard


def test_what_arrives_is_not_answered(transport, discard):
    discard.dataReceived(b"hello")

    assert transport.value() == b""
    assert not transport.disconnecting


def test_a_peer_that_has_said_everything_is_told_what_is_queued_and_goodbye(transport, discard):
    assert IHalfCloseableProtocol.providedBy(discard)
    discard.readConnectionLost()

    assert transport.disconnecting
    assert not transport.disconnected


def test_that_our_own_side_is_closed_is_no_news(transport, discard):
    discard.writeConnectionLost()

    assert not transport.disconnecting
