"""What the tests of the documentation share."""

from __future__ import annotations

from integration.kit import start

__all__ = ["start"]
