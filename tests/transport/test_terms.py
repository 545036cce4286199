import pytest
from twisted.internet.task import Clock

from sockproto import HandshakeFailed
from sockproto.events import ConnectionEnded, ConnectionOpened, HandshakeEnded
from sockproto.limits import Limits
from sockproto.transport.terms import Terms, named

from .kit import LOCAL, PEER, Sessions, Tickets


async def side(peer):
    raise AssertionError("nobody asked for it")


def make(session=None, *, observers=(), admission=None, **limits):
    return Terms(
        side,
        session,
        serving=True,
        limits=Limits(**limits),
        admission=admission,
        observers=observers,
        clock=Clock(),
    )


EVENT = ConnectionOpened(1, PEER, LOCAL)


class Stay:
    """A connection that goes when it is told to, or when we say so."""

    def __init__(self, terms, *, obedient=True):
        self.terms, self.obedient = terms, obedient
        self.told = 0
        terms.live[self] = None

    def shut_down(self):
        self.told += 1
        if self.obedient:
            self.terms.ended(self)

    def deadline_passed(self):
        self.terms.ended(self)


def test_no_session_is_none_on_offer():
    terms = make()

    assert (terms.sessions, terms.names, terms.choose(None)) == ({}, (), None)


def test_a_session_alone_has_no_name_and_is_the_default():
    session = Sessions()
    terms = make(session)

    assert (terms.names, terms.choose(None)) == ((), session)


def test_the_first_of_several_sessions_is_the_default():
    chat, echo = Sessions(), Sessions()
    terms = make({"chat": chat, "echo": echo})

    assert terms.names == ("chat", "echo")
    assert (terms.choose(None), terms.choose("chat"), terms.choose("echo")) == (chat, chat, echo)


def test_a_mapping_that_changes_later_changes_nothing():
    given_sessions = {"chat": Sessions()}
    found = named(given_sessions)

    given_sessions.clear()

    assert list(found) == ["chat"]


def test_numbers_count_from_one():
    terms = make()

    assert [next(terms.numbers) for _ in range(3)] == [1, 2, 3]


def test_every_observer_sees_every_event():
    first, second = [], []
    terms = make(observers=[first.append, second.append])

    terms.emit(EVENT)
    terms.emit(EVENT)

    assert (first, second) == ([EVENT, EVENT], [EVENT, EVENT])


def test_an_observer_that_fails_is_detached_and_reported_once(logged):
    class Broken:
        def __call__(self, event):
            raise ZeroDivisionError("oops")

        def __repr__(self):
            return "<Broken>"

    seen = []
    terms = make(observers=[Broken(), seen.append])

    terms.emit(EVENT)
    terms.emit(EVENT)

    assert seen == [EVENT, EVENT]
    assert all(len(told) == 1 for told in terms.told.values())
    assert logged.take() == [
        "an observer failed and is detached: <Broken>: ZeroDivisionError('oops')"
    ]


def test_an_observer_that_fails_on_an_event_of_its_own_making_is_reported_once(logged):
    def relapses(event):
        if len(seen) < 3:
            seen.append(event)
            terms.emit(event)
        raise ZeroDivisionError("oops")

    seen = []
    after = []
    terms = make(observers=[relapses, after.append])

    terms.emit(EVENT)

    assert (seen, after) == ([EVENT] * 3, [EVENT] * 4)
    assert len(logged.take()) == 1
    assert terms.observers == [after.append]


class Picky:
    """Notes what it wants, which is not everything."""

    wants = ("crashed", ConnectionEnded)

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        self.seen.append(event)


def verdict(reason, error=None):
    return HandshakeEnded(1, PEER, LOCAL, reason, "handshake", "", None, None, 0.5, 0, error)


def test_an_observer_is_told_of_what_it_wants():
    picky = Picky()
    terms = make(observers=[picky])
    crashed = verdict("crashed")

    for event in (EVENT, verdict("accepted"), crashed, verdict("lost")):
        terms.emit(event)

    assert picky.seen == [crashed]
    assert terms.told[ConnectionOpened] in ([], ())


def crash():
    """How it looks when a plug-in breaks."""
    failed = HandshakeFailed("Word.serve", "raised ZeroDivisionError")
    failed.__cause__ = ZeroDivisionError("oops")
    return failed


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (crash(), "ZeroDivisionError('oops')"),
        (HandshakeFailed("Word.serve", "said no"), "HandshakeFailed('Word.serve said no')"),
    ],
)
def test_a_crash_that_nobody_wants_to_know_of_is_logged(error, shown, logged):
    make().emit(verdict("crashed", error))

    assert logged.take() == [f"{error}: {shown}"]


def test_whatever_else_nobody_wants_to_know_of_is_not_logged(logged):
    terms = make()

    terms.emit(EVENT)
    terms.emit(verdict("rejected"))

    assert logged.take() == []


def test_nobody_is_told_of_the_end_of_one_connection():
    terms = make()
    stay, other = Stay(terms), Stay(terms)

    terms.ended(stay)
    terms.ended(stay)

    assert set(terms.live) == {other}


def test_to_shut_down_what_has_no_connections_is_done_at_once():
    gone = []
    make().shut_down().addCallback(gone.append)

    assert gone == [None]


def test_to_shut_down_tells_every_connection_and_waits_for_the_last():
    terms = make()
    stays = [Stay(terms), Stay(terms, obedient=False), Stay(terms)]
    gone = []

    terms.shut_down().addCallback(gone.append)
    terms.shut_down().addCallback(gone.append)

    assert ([each.told for each in stays], gone) == ([1, 2, 1], [])
    terms.ended(stays[1])
    assert gone == [None, None]


def test_a_shut_down_that_is_cut_short_gives_nobody_more_time():
    terms = make()
    late = [Stay(terms, obedient=False), Stay(terms, obedient=False)]
    gone = []
    terms.shut_down().addCallback(gone.append)

    terms.cut_short()

    assert (gone, [each.told for each in late]) == ([None], [1, 1])


@pytest.mark.parametrize(
    ("session", "complaint"),
    [
        (Sessions, "Sessions is a class, expected a session: Factory.forProtocol(Sessions)"),
        ({"": None}, "a NoneType is no session: it lacks buildProtocol()"),
    ],
)
def test_what_cannot_build_a_protocol_is_no_session(session, complaint):
    with pytest.raises(TypeError) as raised:
        named(session)
    assert str(raised.value) == complaint


def test_a_shut_down_that_ends_everything_at_once_fires_once():
    terms = make()
    Stay(terms)
    gone = []

    terms.shut_down().addCallback(gone.append)

    assert gone == [None]


def test_whoever_waits_for_the_shut_down_may_give_up(logged):
    terms = make()
    stay = Stay(terms, obedient=False)
    gone = []

    waiting = terms.shut_down()
    waiting.addErrback(lambda failure: gone.append(failure.type.__name__))
    waiting.cancel()
    terms.ended(stay)

    assert gone == ["CancelledError"]


def test_a_ticket_is_told_the_verdict():
    tickets = Tickets()

    make().settle(tickets, "rejected", silent=False)
    make().settle(tickets, "crashed", silent=True, ours=True)

    assert tickets.verdicts == [("rejected", False), ("crashed", True)]
    assert tickets.ours == [False, True]


def test_a_ticket_that_cannot_be_told_the_verdict_is_reported(logged):
    class Broken(Tickets):
        def settled(self, reason, *, silent=False, ours=False):
            raise ZeroDivisionError("oops")

        def __repr__(self):
            return "<Broken>"

    make().settle(Broken(), "rejected", silent=False)

    assert logged.take() == ["a verdict could not be told: <Broken>: ZeroDivisionError('oops')"]


def test_a_ticket_is_given_back():
    tickets = Tickets()
    terms = make()

    terms.release(tickets)
    terms.release(None)

    assert tickets.released == 1


def test_a_ticket_that_cannot_be_given_back_is_reported(logged):
    class Broken(Tickets):
        def release(self):
            raise ZeroDivisionError("oops")

        def __repr__(self):
            return "<Broken>"

    make().release(Broken())

    assert logged.take() == ["a slot could not be given back: <Broken>: ZeroDivisionError('oops')"]


# An admission with a cap


class Caps(Tickets):
    """An admission that has a cap on connections as well."""

    has_room = True

    def when_room(self, callback):
        callback()

    def hold(self):
        return self


@pytest.mark.parametrize("admission", [None, Tickets(), Caps()], ids=["none", "plain", "capped"])
def test_it_is_known_whether_newcomers_may_have_to_wait(admission):
    expected = admission if isinstance(admission, Caps) else None

    assert make(admission=admission).capped is expected


def test_who_was_turned_away_is_forgotten_when_gone():
    terms = make()
    stay = Stay(terms)
    terms.turned_away[stay] = None

    terms.ended(stay)

    assert terms.turned_away == terms.live == {}
