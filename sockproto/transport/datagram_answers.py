"""
Whether a datagram may be answered, so that nobody is harmed by what others send in his name.

- An answer is at most as long as its question, or as the operator says. Otherwise a sender who
  writes somebody else's address on his envelopes could have us send more than he can.
- On loopback it may be longer, since nobody outside can claim to be there (RFC 1122 section
  3.2.1.3), and on a unix socket, where the kernel knows the sender.
- One source has few answers a second. The table of them is bounded.
- Nobody is sent what he has sent us: two servers would send it to and fro for ever.
- Who sends from the port that we listen on has one answer a second. He may be a server like us, to
  whom somebody has sent something in our name, and whose answer we are reading. If he is a client,
  and by chance at that port, he is served all the same.
- Who goes on without a pause has one answer in a hundred withheld. Two servers that are far from
  each other take as long for an exchange as the rate allows, and would go on for ever; but none of
  them asks again, and a client does.
"""

from __future__ import annotations

from sockproto.admission.expiries import MAX_SOURCES, by_family
from sockproto.admission.networks import number_of
from sockproto.admission.rate import ROUNDING, MaxRatePerSource, Rate
from sockproto.admission.rules import Applicant
from sockproto.admission.sources import Sources
from sockproto.core.facts import Address, Family

MAX_ANSWERS = Rate(10, 1.0)
"""How many answers one source is sent."""

MAX_ANSWERS_TO_OUR_PORT = Rate(1, 1.0)
"""How many are sent to the port that we listen on, of one address."""

MAX_ANSWERS_AT_A_STRETCH = 100
"""How many one sender is given, before one is withheld."""

PAUSE = 10.0
"""Seconds of silence that make up for an answer; who never asks sooner has all of them."""

DEFAULT_AMPLIFICATION = 1.0
"""How many bytes are answered to one, except on loopback."""

_PORT_BITS = 160
"""Where a port stands in the number of a source, above all that an address and its family take."""


class Answers:
    """
    The answers that have been given, as far as they count.

    Args:
        max_amplification: How many bytes may be answered to one.
        port: The one that we listen on; 0 on a unix socket.
    """

    def __init__(self, max_amplification: float, port: int = 0) -> None:
        self._max_amplification = max_amplification
        self._port = port
        self._rate = MaxRatePerSource(MAX_ANSWERS)
        self._rate_to_our_port = MaxRatePerSource(MAX_ANSWERS_TO_OUR_PORT)
        # Until when the answers to a sender count: each for so long, one after the other.
        self._stretches = by_family(MAX_SOURCES)
        self._sources = Sources()

    def refuse(self, address: Address, question: bytes, answer: bytes, now: float) -> str:
        """
        Count an answer; or say why it may not be given.

        Args:
            address: Where the question says that it comes from.
            question: What it was.
            answer: What would be sent there.
            now: The clock's time.

        Returns:
            The reason, in words for the operator; empty if it may be given.
        """
        if answer == question:
            return "the answer would be the question, which two servers would exchange for ever"
        number = number_of(address)
        sender = hash(address.path) if number is None else address.port << _PORT_BITS | number
        # On this machine each sender is a source, as on loopback and a unix socket there is none.
        source = self._sources.find(number, None)
        far = source is not None
        if far and len(answer) > self._max_amplification * len(question):
            return (
                f"the answer has {len(answer)} bytes and the question {len(question)}, a ratio "
                f"above the {self._max_amplification:g} of max_amplification"
            )
        by_itself = Applicant(address.family, number, sender, False, now)
        with_others = Applicant(address.family, number, source, False, now) if far else by_itself
        from_our_port = 0 != self._port == address.port
        if self._rate.odds(with_others):
            return f"its source has had its answers, {MAX_ANSWERS}"
        if from_our_port and self._rate_to_our_port.odds(by_itself):
            return (
                f"it sends from port {self._port}, as another server like this one would, and has "
                f"had its answer, {MAX_ANSWERS_TO_OUR_PORT}"
            )
        if far and self._withhold(address.family, sender, now):
            return (
                f"it has had {MAX_ANSWERS_AT_A_STRETCH} answers without a pause, and one is "
                "withheld in case it is a server too; a client asks again"
            )
        self._rate.count(with_others)
        if from_our_port:
            self._rate_to_our_port.count(by_itself)
        return ""

    def _withhold(self, family: Family, sender: int, now: float) -> bool:
        """Count an answer, or tell that this is the one that the sender does not get."""
        table = self._stretches[family]
        until = max(table.until(sender), now)
        withheld = until - now > (MAX_ANSWERS_AT_A_STRETCH - 1) * PAUSE + ROUNDING
        # From then on it may have a hundred again.
        table.put(sender, now if withheld else until + PAUSE, now)
        return withheld
