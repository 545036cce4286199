"""The good conversation, and those beside it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sockproto.core.errors import PeerDisconnected, Rejected
from sockproto.core.exchange import MAX_BYTES
from sockproto.core.facts import Address, PeerFacts, TlsFacts
from sockproto.core.outcomes import Accept, Reject
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.learned import NoConversation, learn, told
from sockproto.testing.conformance.networks import END, Interrupted
from sockproto.testing.conformance.results import Fault, NotApplicable
from sockproto.testing.conformance.stage import CLIENT, SERVER, Mirror, meet
from sockproto.testing.conformance.subject import Subject, dice, mutation

MAX_IDENTITY = 256


@check("talk")
def good_conversation(subject: Subject) -> Iterator[Case]:
    """Where nothing goes wrong, both sides accept."""
    if isinstance(subject.learned, NotApplicable):
        raise NotApplicable(str(subject.learned))

    def look() -> None:
        if isinstance(subject.learned, NoConversation):
            raise Fault(str(subject.learned), subject.learned.heard)

    yield look


@check("talk")
def the_same_again(subject: Subject) -> Iterator[Case]:
    """The same conversation comes to the same end every time."""
    first = subject.conversation

    def look() -> None:
        again = learn(subject.cast)
        for name, part in again.parts.items():
            known = first.parts[name]
            if (part.outcome.identity, len(part.heard)) != (
                known.outcome.identity,
                len(known.heard),
            ):
                raise Fault(
                    f"{subject.title(name)} ends in {told(part.outcome)} after {len(part.heard)} "
                    f"messages, and before in {told(known.outcome)} after {len(known.heard)}",
                    part.heard,
                )

    yield look
    yield look


@check("talk")
def both_sides_agree(subject: Subject) -> Iterator[Case]:
    """A client does not accept where the server rejects what the client has said."""
    if len(subject.sides) < 2:
        raise NotApplicable("there is only one side")
    part = subject.parts[SERVER]
    if not part.heard:
        raise NotApplicable("the client says nothing")

    def look(seed: int) -> None:
        server = subject.cast.player(SERVER)
        client = subject.cast.player(CLIENT)
        meet(server, client, mutation(dice("both-sides-agree", seed), len(part.stream)))
        if not (isinstance(server.outcome, Reject) and isinstance(client.outcome, Accept)):
            return
        # A client that accepts with a last word cannot know whether that has arrived as it was.
        if not client.outcome.reply:
            raise Fault("the client accepts, though the server rejects it", server.heard)

    for seed in range(subject.cases):
        yield partial(look, seed)


@check("talk")
def identity_can_be_shown(subject: Subject) -> Iterator[Case]:
    """Who the peer is, is a short text on one line, or None."""

    def look(name: str) -> None:
        identity = subject.parts[name].outcome.identity
        if identity is None:
            return
        if not isinstance(identity, str) or not identity:
            raise Fault(f"{subject.title(name)} gives the identity {identity!r}, expected a text")
        if len(identity) > MAX_IDENTITY or not identity.isprintable():
            raise Fault(
                f"{subject.title(name)} gives an identity that logs have to escape or cut: "
                f"{identity[:64]!r}",
                weak=True,
            )

    for name in subject.parts:
        yield partial(look, name)


FACTS = (
    PeerFacts(),
    PeerFacts(Address("inet", "192.0.2.1", 40000), Address("inet", "192.0.2.2", 8001)),
    PeerFacts(Address("inet6", "2001:db8::1", 40000), Address("inet6", "2001:db8::2", 8001)),
    PeerFacts(Address("unix"), Address("unix", path="/run/door"), uid=1000),
    PeerFacts(tls=TlsFacts()),
    PeerFacts(tls=TlsFacts("h2", ("peer.example",), b"0", b"1")),
    PeerFacts(sessions=("one", "two")),
)
"""What may be known about a peer: each address family, with and without the rest."""


@check("talk")
def wherever_the_peer_is(subject: Subject) -> Iterator[Case]:
    """It breaks over no kind of address, and whether or not TLS, uid and sessions are known."""

    def look(name: str, facts: PeerFacts) -> None:
        player = subject.cast.player(name, facts=facts)
        meet(player, subject.cast.partner_of(name))
        subject.expect_ending(player, name)

    for facts in FACTS:
        for name in subject.sides:
            yield partial(look, name, facts)


@check("talk")
def the_verdict_stands(subject: Subject) -> Iterator[Case]:
    """Nothing that happens after the verdict changes it."""

    def look(name: str) -> None:
        player = subject.cast.meet(name)
        outcome = player.outcome
        player.hear(b"more\n")
        player.break_off(PeerDisconnected(0, "nothing"))
        player.hear_end()
        player.break_off(Rejected("too late"))
        if player.outcome is not outcome:
            raise Fault(f"{subject.title(name)} has changed its mind", player.heard)

    for name in subject.parts:
        yield partial(look, name)


@check("talk")
def silent_after_the_verdict(subject: Subject) -> Iterator[Case]:
    """After the verdict it says nothing any more, however much time passes."""

    def look(name: str) -> None:
        player = subject.cast.meet(name, leave=False)
        said = player.sent
        clock = subject.cast.clock
        for piece in (b"more\n", b"\0"):
            player.hear(piece)
            if clock is not None:
                try:
                    clock.advance(60.0)
                except RuntimeError as error:
                    raise Fault(
                        f"{subject.title(name)} speaks after its verdict: {error}", player.heard
                    ) from None
        if player.sent != said:
            raise Fault(f"{subject.title(name)} speaks after its verdict", player.heard)

    for name in subject.parts:
        yield partial(look, name)


@check("talk")
def does_not_take_an_echo(subject: Subject) -> Iterator[Case]:
    """Whoever only says back what it says is not accepted."""
    talkative = [name for name, part in subject.listening() if part.said]
    if not talkative:
        raise NotApplicable("it says nothing that could be said back")

    def look(name: str) -> None:
        player = subject.cast.player(name)
        meet(player, Mirror())
        subject.expect_ending(player, name)
        if isinstance(player.outcome, Accept):
            raise Fault(
                f"{subject.title(name)} takes its own words for the peer's", player.heard, weak=True
            )

    for name in talkative:
        yield partial(look, name)


@check("talk")
def within_the_default_budget(subject: Subject) -> Iterator[Case]:
    """The good conversation takes no more than a handshake may by default."""

    def look(name: str) -> None:
        needed = subject.parts[name].needed
        if needed > MAX_BYTES:
            raise Fault(f"{subject.title(name)} takes {needed} bytes, the budget is {MAX_BYTES}")

    for name in subject.parts:
        yield partial(look, name)


@check("talk")
def needs_to_hear_something(subject: Subject) -> Iterator[Case]:
    """A side that is told something does not accept before it has heard it."""

    def look(name: str) -> None:
        player = subject.cast.meet(name, Interrupted(0, END))
        subject.expect_ending(player, name)
        if isinstance(player.outcome, Accept):
            raise Fault(f"{subject.title(name)} accepts whoever says nothing", weak=True)

    for name, part in subject.listening():
        if part.needed:
            yield partial(look, name)
