from __future__ import annotations

from inspect import getmembers, isfunction, signature

import pytest

from sockproto.transport.bare import SocketWire
from sockproto.transport.contract import Wire
from sockproto.transport.wire import TransportWire


@pytest.mark.parametrize("wire", [SocketWire, TransportWire])
def test_each_wire_does_what_a_gate_asks_for(wire):
    asked = {name for name, _ in getmembers(Wire, isfunction) if not name.startswith("_")}

    assert {"write", "half_close", "close", "abort", "leave", "hand_over", "concluded"} <= asked
    for name in asked:
        assert list(signature(getattr(wire, name)).parameters) == list(
            signature(getattr(Wire, name)).parameters
        )
