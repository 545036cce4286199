"""``twistd sockserver``: the two names that Twisted's ``ServiceMaker`` asks for."""

from sockproto.service.maker import makeService
from sockproto.service.options import Options

__all__ = ["Options", "makeService"]
