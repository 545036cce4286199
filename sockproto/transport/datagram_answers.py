"""
Whether a datagram may be answered, so that nobody is harmed by what others send in his name.

- An answer is at most as long as its question, or as the operator says. Otherwise a sender who
  writes somebody else's address on his envelopes could have us send more than he can.
- On loopback it may be longer, since nobody outside can claim to be there (RFC 1122 section
  3.2.1.3), and on a unix socket, where the kernel knows the sender.
- One source has few answers a second. The table of them is bounded.
- Nobody is sent what he has sent us: two servers would send it to and fro for ever.
"""

from __future__ import annotations

from sockproto.admission.networks import number_of
from sockproto.admission.rate import MaxRatePerSource, Rate
from sockproto.admission.rules import Applicant
from sockproto.admission.sources import Sources
from sockproto.core.facts import Address

MAX_ANSWERS = Rate(10, 1.0)
"""How many answers one source is sent."""

DEFAULT_AMPLIFICATION = 1.0
"""How many bytes are answered to one, except on loopback."""

_PORT_BITS = 160
"""Where a port stands in the number of a source, above all that an address and its family take."""


class Answers:
    """
    The answers that have been given, as far as they count.

    Args:
        max_amplification: How many bytes may be answered to one.
    """

    def __init__(self, max_amplification: float) -> None:
        self._max_amplification = max_amplification
        self._rate = MaxRatePerSource(MAX_ANSWERS)
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
        # Of loopback there is none, nor of a unix socket.
        source = self._sources.find(number, None)
        if source is None:
            # On one machine each program is a source.
            source = hash(address.path) if number is None else address.port << _PORT_BITS | number
        elif len(answer) > self._max_amplification * len(question):
            return (
                f"the answer has {len(answer)} bytes and the question {len(question)}, a ratio "
                f"above the {self._max_amplification:g} of max_amplification"
            )
        applicant = Applicant(address.family, number, source, False, now)
        if self._rate.odds(applicant):
            return f"its source has had its answers, {MAX_ANSWERS}"
        self._rate.count(applicant)
        return ""
