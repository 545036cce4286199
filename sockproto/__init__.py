"""
Write the handshake; get the server, the client and the rest.

The public names, resolved when they are first used (PEP 562), so that ``import sockproto`` imports
neither Twisted's reactor nor anything else that is not needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockproto._lazy import lazy_names
from sockproto._version import __version__

if TYPE_CHECKING:
    from sockproto.admission.control import AdmissionControl
    from sockproto.admission.networks import Networks
    from sockproto.admission.policy import Policy
    from sockproto.core.arguments import Endpoint, Secret
    from sockproto.core.errors import (
        ConfigurationError,
        HandshakeFailed,
        HandshakeTimeout,
        LimitExceeded,
        PeerDisconnected,
        PeerError,
        ProtocolViolation,
        Rejected,
        Shutdown,
        SockprotoError,
        UnknownHandshake,
        UnknownSession,
    )
    from sockproto.core.exchange import Exchange
    from sockproto.core.facts import Address, PeerFacts, TlsFacts
    from sockproto.core.handshake import ClientHandshake, Handshake, ServerHandshake
    from sockproto.core.outcomes import Accept, Reject
    from sockproto.core.peer import Peer
    from sockproto.events import (
        AcceptingPaused,
        CapReached,
        ConnectionEnded,
        ConnectionOpened,
        Ending,
        Event,
        HandshakeEnded,
        Observer,
        RefusalWaived,
    )
    from sockproto.limits import Limits
    from sockproto.transport.client import ClientFactory, HandshakeEndpoint, connect
    from sockproto.transport.datagram import listen_datagrams
    from sockproto.transport.endpoints import listen
    from sockproto.transport.proxy import ProxyPolicy
    from sockproto.transport.server import ServerFactory
    from sockproto.transport.tls import ClientTls, ServerTls

_HOME = {
    "AdmissionControl": "admission.control",
    "Networks": "admission.networks",
    "Policy": "admission.policy",
    "Endpoint": "core.arguments",
    "Secret": "core.arguments",
    "ConfigurationError": "core.errors",
    "HandshakeFailed": "core.errors",
    "HandshakeTimeout": "core.errors",
    "LimitExceeded": "core.errors",
    "PeerDisconnected": "core.errors",
    "PeerError": "core.errors",
    "ProtocolViolation": "core.errors",
    "Rejected": "core.errors",
    "Shutdown": "core.errors",
    "SockprotoError": "core.errors",
    "UnknownHandshake": "core.errors",
    "UnknownSession": "core.errors",
    "Exchange": "core.exchange",
    "Address": "core.facts",
    "PeerFacts": "core.facts",
    "TlsFacts": "core.facts",
    "ClientHandshake": "core.handshake",
    "Handshake": "core.handshake",
    "ServerHandshake": "core.handshake",
    "Accept": "core.outcomes",
    "Reject": "core.outcomes",
    "Peer": "core.peer",
    "AcceptingPaused": "events",
    "CapReached": "events",
    "ConnectionEnded": "events",
    "ConnectionOpened": "events",
    "Ending": "events",
    "Event": "events",
    "HandshakeEnded": "events",
    "Observer": "events",
    "RefusalWaived": "events",
    "Limits": "limits",
    "ClientFactory": "transport.client",
    "HandshakeEndpoint": "transport.client",
    "connect": "transport.client",
    "listen_datagrams": "transport.datagram",
    "listen": "transport.endpoints",
    "ProxyPolicy": "transport.proxy",
    "ServerFactory": "transport.server",
    "ClientTls": "transport.tls",
    "ServerTls": "transport.tls",
}

__all__ = [
    "Accept",
    "AcceptingPaused",
    "Address",
    "AdmissionControl",
    "CapReached",
    "ClientFactory",
    "ClientHandshake",
    "ClientTls",
    "ConfigurationError",
    "ConnectionEnded",
    "ConnectionOpened",
    "Ending",
    "Endpoint",
    "Event",
    "Exchange",
    "Handshake",
    "HandshakeEnded",
    "HandshakeEndpoint",
    "HandshakeFailed",
    "HandshakeTimeout",
    "LimitExceeded",
    "Limits",
    "Networks",
    "Observer",
    "Peer",
    "PeerDisconnected",
    "PeerError",
    "PeerFacts",
    "Policy",
    "ProtocolViolation",
    "ProxyPolicy",
    "RefusalWaived",
    "Reject",
    "Rejected",
    "Secret",
    "ServerFactory",
    "ServerHandshake",
    "ServerTls",
    "Shutdown",
    "SockprotoError",
    "TlsFacts",
    "UnknownHandshake",
    "UnknownSession",
    "__version__",
    "connect",
    "listen",
    "listen_datagrams",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
