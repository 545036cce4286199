import inspect
from typing import get_type_hints

import pytest

from sockproto import Accept, ClientHandshake, Handshake, Peer, Reject, ServerHandshake
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome


def test_a_handshake_is_both_its_sides():
    assert {ServerHandshake, ClientHandshake} < set(Handshake.__mro__)


@pytest.mark.parametrize("handshake", [Passphrase, Welcome])
@pytest.mark.parametrize("side", ["serve", "connect"])
def test_a_built_in_handshake_keeps_the_contract(handshake, side):
    method = getattr(handshake, side)
    hints = get_type_hints(method)

    assert inspect.iscoroutinefunction(method)
    assert hints["peer"] is Peer
    assert hints["return"] == Accept | Reject
