"""A second signal: whoever sends it does not want to wait any longer."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


def when_told_again(reactor: Any, callback: Callable[[], object]) -> None:
    """
    Have something called at each further SIGINT or SIGTERM, in place of what Twisted does then.

    Twisted tells its reactor to stop once more, which fails while it stops already. A signal that
    the reactor has not taken is left to whoever has.

    Args:
        reactor: Twisted's reactor, which is stopping.
        callback: What to call, in a turn of the reactor.
    """

    def told(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(callback)

    for number, name in ((signal.SIGINT, "sigInt"), (signal.SIGTERM, "sigTerm")):
        taken = getattr(reactor, name, None)
        if taken is not None and signal.getsignal(number) == taken:
            signal.signal(number, told)
