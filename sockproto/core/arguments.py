"""How the constructor of a plug-in says more about an argument than its type."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


SECRET: Final = _Mark("SECRET")
ENDPOINT: Final = _Mark("ENDPOINT")

Secret: TypeAlias = Annotated[bytes, SECRET]
"""Bytes that nobody else should see; whoever writes them on a command line is warned."""

Endpoint: TypeAlias = Annotated[str, ENDPOINT]
"""An endpoint description. It takes the raw rest of a plug-in string, colons and all."""
