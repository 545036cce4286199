"""As many descriptors as we may have."""

from __future__ import annotations

import resource
from contextlib import suppress


def raise_descriptor_limit() -> int:
    """
    Raise the soft limit of open descriptors to the hard one (RLIMIT_NOFILE, getrlimit(2)).

    The soft one is low, mostly 1024, for the sake of programs that use select(2), which knows no
    higher numbers. Twisted's other reactors do not mind.

    Returns:
        The limit as it is now.
    """
    # A hard limit that is infinite cannot be had everywhere.
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
