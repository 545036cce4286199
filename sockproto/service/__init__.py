"""``twistd sockserver``: the two names that Twisted's ``ServiceMaker`` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockproto._lazy import lazy_names

if TYPE_CHECKING:
    from sockproto.service.maker import makeService
    from sockproto.service.options import Options

__all__ = ["Options", "makeService"]

# The commands of the shell use a module or two of this package, and need not wait for all of it.
__getattr__, __dir__ = lazy_names(__name__, {"Options": "options", "makeService": "maker"})
