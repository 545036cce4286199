"""
What is held against a world, whatever has happened in it.

- No session begins before the handshake has accepted, and none twice.
- Whoever has said what a handshake asks for gets its verdict, nobody who has finished is waited
  for, and no handshake crashes by itself.
- A connection that was opened has one opening, one verdict and one ending, in this order.
- No deadline is missed by more than a bucket.
- No cap is exceeded, and what is counted is what is there.
- The session hears what was said behind the handshake: in order, once, nothing else; and the peer
  hears what was said to it, all of it once there is a verdict.
- Nothing is raised but what a plug-in was told to raise.
- When the server has stopped, nothing is left: no connection, no slot, no timer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sockproto.admission.control import AdmissionControl
from sockproto.admission.policy import Policy
from sockproto.events import ConnectionEnded, ConnectionOpened, Event, HandshakeEnded
from sockproto.testing.simulation.peers import Peer
from sockproto.testing.simulation.plugins import (
    BREAKS,
    REPLY,
    SORRY,
    YES,
    Session,
    Step,
    words_for,
)
from sockproto.transport.deadlines import GRANULARITY
from sockproto.transport.gate import JITTER, Gate
from sockproto.transport.terms import Terms

LATE = GRANULARITY + 0.001
"""Seconds by which a deadline may be late: the width of a bucket, and a rounding."""


class Broken(AssertionError):
    """A promise that was not kept."""


def expect(kept: bool, promise: str) -> None:
    """Raise unless it was kept."""
    if not kept:
        raise Broken(promise)


def check_events(events: list[Event]) -> None:
    """Hold one connection's events against their order."""
    kinds = [type(each) for each in events]
    expected = [ConnectionOpened, HandshakeEnded, ConnectionEnded]
    expect(kinds == expected, f"a connection has the events {[k.__name__ for k in kinds]}")


def check_caps(control: AdmissionControl, policy: Policy, open_connections: int) -> None:
    """Hold the counts against the caps, and against what is there."""
    counts = control.counts
    expect(counts.connections == open_connections, f"{counts.connections} connections are counted")
    most = policy.max_connections
    expect(most is None or counts.connections <= most, f"{counts.connections} connections")
    full = policy.max_pending
    expect(full is None or counts.pending[False] <= full.full, f"{counts.pending[False]} pending")
    per_source = policy.max_pending_per_source
    for source, pending in counts.pending_of.items():
        expect(per_source is None or pending <= per_source, f"{pending} pending from {source!r}")


def check_deadlines(terms: Terms, now: float) -> None:
    """Hold every connection without a session against its deadline."""
    for connection in terms.live:
        if isinstance(connection, Gate):
            expect(connection.due + LATE >= now, f"a deadline was missed by {now - connection.due}")


def check_duration(verdict: HandshakeEnded, handshake_timeout: float) -> None:
    """Hold a verdict against the handshake's clock."""
    most = handshake_timeout * (1 + JITTER) + LATE
    expect(verdict.duration <= most, f"a handshake has taken {verdict.duration} s")


def check_verdict(peer: Peer, steps: Sequence[Step], reason: str) -> None:
    """Hold a verdict against what it is about: the peer's words, and what the handshake does."""
    kinds = {each.kind for each in steps}
    breaks = not kinds.isdisjoint(BREAKS)
    expect(breaks or reason != "crashed", "a handshake has crashed that does not break")
    if peer.reads and not breaks and "sleep" not in kinds:
        # It waits for nothing but bytes. Once they have come, it has decided; and once the peer has
        # finished without them, it has nothing to wait for.
        whole, _, _ = _listen(peer.heard, steps)
        shown = f"{peer.heard[:80]!r} ends in {reason}"
        expect(not (whole and reason in ("timeout", "lost", "probe")), shown)
        expect(not (peer.ended and reason == "timeout"), f"{shown}, though it was over")


def _listen(heard: bytes, steps: Iterable[Step]) -> tuple[bool, bool, bytes]:
    """Whether all words are there that the handshake asks for, are the right ones, and the rest."""
    whole = good = True
    for step in steps:
        if step.kind == "line":
            line, found, heard = heard.partition(b"\n")
            whole = whole and bool(found)
            good = good and line.removesuffix(b"\r") == YES
        elif step.kind == "exactly":
            whole = whole and len(heard) >= step.size
            heard = heard[step.size :]
    return whole, good, heard


def check_bytes(
    peer: Peer, steps: Sequence[Step], session: Session | None, reason: str | None
) -> None:
    """Hold what was heard against what was said, on both sides."""
    words = bytearray().join(map(words_for, steps))
    whole, good, left = _listen(peer.heard, steps)
    assert peer.connection is not None
    received = peer.connection.received
    if reason == "accepted":
        expect(whole and good, "somebody was accepted who has not said yes")
        words += REPLY
        if session is not None:
            expect(left.startswith(session.heard), f"the session has heard {session.heard!r}")
            words += session.heard
    elif reason == "rejected":
        words += SORRY
    # A session sends back what it hears, unless it breaks before that.
    owed = reason in ("accepted", "rejected")
    owed = owed and (session is None or session.temper != "break late")
    kept = words == received if owed else words.startswith(received)
    expect(kept, f"the peer has heard {received[-80:]!r}")
    if session is not None and session.begun and session.temper == "echo":
        expect(session.heard == left, f"the session has heard {session.heard!r} of {left!r}")


def check_sessions(accepted: set[int | None], sessions: dict[int, Session]) -> None:
    """Hold the sessions against the verdicts of the handshake itself."""
    begun = {port for port, session in sessions.items() if session.begun}
    expect(begun <= accepted, f"a session has begun for {sorted(begun - accepted)}")
