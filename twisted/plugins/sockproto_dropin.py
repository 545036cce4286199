"""
Tells twistd of ``sockserver``.

Frozen: caches of this file outlive upgrades, so a new plug-in is a new file beside it.
"""

from twisted.application.service import ServiceMaker

sockserver = ServiceMaker(
    "sockserver",
    "sockproto.service",
    "Serve a handshake: say who may come in, and hand over to a session.",
    "sockserver",
)
