"""What the tests with real sockets share."""

from __future__ import annotations

import pytest

from .kit import Identity, identity, start

__all__ = ["loopback_identity", "start"]


@pytest.fixture(scope="session")
def loopback_identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A certificate for 127.0.0.1 and its key."""
    return identity(tmp_path_factory.mktemp("identity"))
