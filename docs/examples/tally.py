from collections import Counter

from sockproto import ConnectionEnded, Ending, Event


class Tally:
    """Count how connections end."""

    def __init__(self) -> None:
        self.endings: Counter[Ending] = Counter()

    def __call__(self, event: Event) -> None:
        if isinstance(event, ConnectionEnded):
            self.endings[event.ending] += 1
