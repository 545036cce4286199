from dataclasses import replace
from ipaddress import ip_network
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)
from twisted.internet.task import Clock

from sockproto.admission.control import AdmissionControl
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.penalties import Penalties
from sockproto.admission.policy import Policy
from sockproto.admission.rate import Rate
from sockproto.core.facts import Address

STRANGER = Address.ip("203.0.113.9", 40000)
OTHER = Address.ip("203.0.113.10", 40000)
LOCAL = Address.ip("127.0.0.1", 40000)

NO_LIMITS = Policy(max_pending_per_source=None, penalties=None)


class Door:
    """An AdmissionControl in virtual time, whose chances can be told."""

    def __init__(self, draw=0.5, dry_run=False, **policy):
        self.clock = Clock()
        self.draw = draw
        self.drawn = 0
        self.control = AdmissionControl(
            Policy(**policy), seconds=self.clock.seconds, random=self.random, dry_run=dry_run
        )

    def random(self):
        self.drawn += 1
        return self.draw

    def admit(self, *addresses, **facts):
        return [self.control.admit(address, **facts) for address in addresses]

    def verdicts(self, address=STRANGER, **facts):
        return [
            (each.rule, each.word, each.figures) for each in self.control.verdicts(address, **facts)
        ]


# The way in and out


def test_a_slot_is_taken_settled_and_given_back():
    counts = (door := Door()).control.counts

    [ticket] = door.admit(STRANGER)
    assert (counts.connections, counts.pending) == (1, [1, 0])
    assert (ticket.patience, ticket.waived) == (1.0, None)

    ticket.settled("accepted")
    assert (counts.connections, counts.pending) == (1, [0, 0])

    ticket.release()
    assert (counts.connections, counts.pending, counts.connections_of) == (0, [0, 0], {})


def test_a_slot_is_given_back_exactly_once():
    door = Door()
    ticket, _ = door.admit(STRANGER, STRANGER)

    for _ in range(3):
        ticket.settled("accepted")
        ticket.release()

    assert (door.control.counts.connections, door.control.counts.pending) == (1, [1, 0])


def test_a_slot_without_a_verdict_is_given_back_whole_and_costs_nothing():
    door = Door(penalties=Penalties(threshold=0.0))

    door.admit(STRANGER)[0].release()

    assert (door.control.counts.connections, door.control.counts.pending) == (0, [0, 0])
    assert not isinstance(door.admit(STRANGER)[0], str)


def test_what_was_refused_is_not_counted():
    door = Door(max_connections=1)
    door.admit(STRANGER)

    assert door.admit(OTHER) == ["max_connections: 1 of 1 connections are taken"]

    counts = door.control.counts
    assert (counts.connections, counts.pending, len(counts.connections_of)) == (1, [1, 0], 1)


# Each rule


def test_who_is_denied_is_refused_before_anything_is_looked_up():
    door = Door(deny=Networks.parse("203.0.113.9"), max_connections=1)
    door.admit(OTHER)

    assert door.admit(STRANGER) == ["allow, deny: allowed by a /0, denied by a /32"]


def test_one_source_cannot_take_every_pending_slot():
    door = Door(max_pending_per_source=2)
    first, _ = door.admit(STRANGER, STRANGER)

    assert door.admit(STRANGER) == ["max_pending_per_source: 2 of 2 pending from its source"]
    assert not isinstance(door.admit(OTHER)[0], str)

    first.settled("accepted")
    assert not isinstance(door.admit(STRANGER)[0], str)


def test_one_source_cannot_take_every_connection():
    door = Door(max_connections_per_source=1)
    [ticket] = door.admit(STRANGER)
    ticket.settled("accepted")

    assert door.admit(STRANGER) == [
        "max_connections_per_source: 1 of 1 connections from its source"
    ]

    ticket.release()
    assert not isinstance(door.admit(STRANGER)[0], str)


def test_one_source_cannot_come_too_often():
    door = Door(max_rate_per_source=Rate(2, 10.0))
    for ticket in door.admit(STRANGER, STRANGER):
        ticket.release()

    words = "max_rate_per_source: 2 of 2/10s are used, the next may come in 5.0 s"
    assert door.admit(STRANGER) == [words]

    door.clock.advance(5.0)
    assert not isinstance(door.admit(STRANGER)[0], str)


def test_what_another_rule_refuses_does_not_count_for_the_rate():
    door = Door(max_rate_per_source=Rate(1, 10.0), max_connections=1)
    [ticket] = door.admit(OTHER)
    door.admit(STRANGER, STRANGER)

    ticket.release()

    assert not isinstance(door.admit(STRANGER)[0], str)


def test_a_source_that_behaves_badly_is_refused_for_a_while():
    door = Door()
    for _ in range(3):
        door.admit(STRANGER)[0].settled("rejected")

    words = "penalties: refused for 15.0 s more, for how its source has behaved"
    assert door.admit(STRANGER) == [words]
    assert not isinstance(door.admit(OTHER)[0], str)

    door.clock.advance(15.0)
    assert not isinstance(door.admit(STRANGER)[0], str)


def test_one_who_keeps_trying_is_not_kept_out_for_longer():
    door = Door()
    door.admit(STRANGER)[0].settled("crashed")

    for _ in range(90):
        assert isinstance(door.admit(STRANGER)[0], str)
        door.clock.advance(1.0)

    assert not isinstance(door.admit(STRANGER)[0], str)


def test_a_silent_one_is_charged_less_than_a_slow_one():
    door = Door(penalties=Penalties(threshold=5.0))

    door.admit(STRANGER)[0].settled("timeout", silent=True)
    door.admit(OTHER)[0].settled("timeout")

    assert not isinstance(door.admit(STRANGER)[0], str)
    assert isinstance(door.admit(OTHER)[0], str)


def test_a_probe_costs_nothing():
    door = Door(penalties=Penalties(threshold=0.0))

    for _ in range(100):
        [ticket] = door.admit(STRANGER)
        ticket.settled("probe", silent=True)
        ticket.release()


def test_penalties_can_be_off():
    door = Door(penalties=None)

    door.admit(STRANGER)[0].settled("crashed")

    assert not isinstance(door.admit(STRANGER)[0], str)


def test_who_is_exempt_is_only_limited_with_everybody_else():
    door = Door(
        max_connections=40,
        max_pending_per_source=1,
        max_connections_per_source=1,
        max_rate_per_source=Rate(1, 10.0),
    )
    for ticket in door.admit(*[LOCAL] * 40):
        ticket.settled("crashed")

    assert door.admit(LOCAL) == ["max_connections: 40 of 40 connections are taken"]


def test_the_users_of_a_unix_socket_are_sources():
    door = Door(max_pending_per_source=1, exempt_unix=False)
    unix = Address("unix")
    door.admit(unix, uid=1000)

    assert isinstance(door.admit(unix, uid=1000)[0], str)
    assert not isinstance(door.admit(unix, uid=1001)[0], str)
    assert not any(isinstance(each, str) for each in door.admit(unix, unix, uid=None))


def test_unless_told_otherwise_the_users_of_a_unix_socket_are_exempt():
    door = Door(max_pending_per_source=1)
    unix = Address("unix")

    assert not any(isinstance(each, str) for each in door.admit(unix, unix, uid=1000))
    assert door.control.source_of(unix, uid=1000) == "exempt"
    assert door.control.source_of(unix) == "of no known source"


def test_every_family_of_addresses_can_be_charged():
    door = Door(max_rate_per_source=Rate(100, 1.0), exempt_unix=False)
    for address, uid in (
        (STRANGER, None),
        (Address.ip("2001:db8::1", 1), None),
        (Address("unix"), 5),
    ):
        door.admit(address, uid=uid)[0].settled("crashed")
        assert isinstance(door.admit(address, uid=uid)[0], str)
    memory = Address("memory")
    door.admit(memory)[0].settled("crashed")
    assert not isinstance(door.admit(memory)[0], str)


def test_ten_thousand_addresses_of_one_ipv6_network_have_the_slots_of_one_source():
    door = Door(exempt_unix=False)
    addresses = [Address.ip(f"2001:db8:0:1::{number:x}", 1) for number in range(10_000)]

    assert sum(not isinstance(each, str) for each in door.admit(*addresses)) == 16
    assert door.control.source_of(addresses[0]) == "2001:db8:0:1::/64"
    assert door.control.source_of(LOCAL) == "exempt"
    assert door.control.source_of(Address("unix"), uid=5) == "user 5"


# Pending handshakes


def test_a_drop_is_only_drawn_for_who_passes_everything_else():
    door = Door(draw=0.29, max_pending=EarlyDrop(1, 30, 3), max_pending_per_source=2)

    assert not isinstance(door.admit(STRANGER)[0], str)
    assert door.drawn == 0

    assert door.admit(OTHER) == ["max_pending: 1 are pending, of 1:30:3"]
    assert door.drawn == 1

    door.draw = 0.3
    assert not isinstance(door.admit(STRANGER)[0], str)
    assert door.drawn == 2

    assert door.admit(STRANGER) == ["max_pending_per_source: 2 of 2 pending from its source"]
    assert door.drawn == 2

    door.draw = 0.999
    assert not isinstance(door.admit(OTHER)[0], str)
    # Full is full, whatever would be drawn.
    assert door.admit(OTHER) == ["max_pending: 3 are pending, of 1:30:3"]
    assert door.drawn == 3


def test_a_flood_of_tls_leaves_room_in_the_clear():
    door = Door(max_pending=EarlyDrop(2, 100, 2), max_pending_tls=EarlyDrop(1, 100, 1))
    door.admit(STRANGER, tls=True)

    assert door.admit(OTHER, tls=True) == ["max_pending_tls: 1 are pending, of 1:100:1"]
    assert not any(isinstance(each, str) for each in door.admit(OTHER, OTHER))
    assert door.admit(OTHER) == ["max_pending: 2 are pending, of 2:100:2"]


def test_under_pressure_newcomers_have_to_hurry():
    door = Door(max_pending=EarlyDrop(8, 100, 8), max_pending_tls=EarlyDrop(4, 100, 4))

    patience = [ticket.patience for ticket in door.admit(*[LOCAL] * 8)]
    assert patience == pytest.approx([1, 1, 1, 1, 1, 1, 0.6, 0.2])

    patience = [ticket.patience for ticket in door.admit(*[LOCAL] * 4, tls=True)]
    assert patience == pytest.approx([1, 1, 1, 0.2])


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("load", [0.1, 0.249, 0.25, 0.4, 0.55, 0.7, 0.85, 0.999])
def test_what_is_dropped_at_random_is_what_the_formula_says(load, tls):
    tries = 2000
    cap = EarlyDrop(250, 30, 1000)
    policy = replace(NO_LIMITS, max_pending=cap, max_pending_tls=cap)
    random = Random(f"{load} {tls}")
    control = AdmissionControl(policy, seconds=lambda: 0.0, random=random.random)
    pending = int(load * cap.full)
    while control.counts.pending[tls] < pending:
        control.admit(STRANGER, tls=tls)
    start, rate = cap.start, cap.rate / 100
    expected = (
        0.0 if pending < start else rate + (1 - rate) * (pending - start) / (cap.full - start)
    )

    dropped = 0
    for _ in range(tries):
        ticket = control.admit(STRANGER, tls=tls)
        if isinstance(ticket, str):
            dropped += 1
        else:
            ticket.release()

    # 2.576 standard deviations on each side hold 99 in 100.
    spread = 2.576 * (tries * expected * (1 - expected)) ** 0.5
    assert abs(dropped - tries * expected) <= spread


def test_never_more_are_pending_than_full():
    cap = EarlyDrop(5, 10, 20)
    policy = replace(NO_LIMITS, max_pending=cap)
    control = AdmissionControl(policy, seconds=lambda: 0.0, random=Random(1).random)

    admitted = [control.admit(STRANGER) for _ in range(5000)]

    assert sum(not isinstance(each, str) for each in admitted) == control.counts.pending[0] == 20


# Room


def test_who_waits_for_room_is_told_when_there_is_some():
    door = Door(max_connections=2)
    told = []
    one, other = door.admit(STRANGER, OTHER)
    assert not door.control.has_room

    door.control.when_room(lambda: told.append("first"))
    door.control.when_room(lambda: told.append("second"))
    one.settled("accepted")
    assert told == []

    one.release()
    assert told == ["first", "second"]
    assert door.control.has_room

    other.release()
    assert told == ["first", "second"]


def test_who_asks_while_there_is_room_is_told_at_once():
    told = []

    Door(max_connections=1).control.when_room(lambda: told.append("room"))
    Door().control.when_room(lambda: told.append("no cap"))

    assert told == ["room", "no cap"]


def test_room_for_one_lets_the_others_wait_on():
    door = Door(max_connections=1)
    [ticket] = door.admit(STRANGER)
    accepted = []

    for name in ("first", "second"):

        def accept(name=name):
            accepted.append((name, *door.admit(STRANGER)))

        door.control.when_room(accept)

    ticket.release()
    assert [name for name, _ in accepted] == ["first"]

    accepted[0][1].release()
    assert [name for name, _ in accepted] == ["first", "second"]


def test_a_listener_that_fails_does_not_keep_the_others_waiting():
    door = Door(max_connections=2)
    one, other = door.admit(STRANGER, STRANGER)
    told = []
    door.control.when_room(lambda: 1 / 0)
    door.control.when_room(lambda: told.append("room"))

    with pytest.raises(ZeroDivisionError):
        one.release()
    other.release()

    assert told == ["room"]
    assert door.control.counts.connections == 0


# What the operator asks


def test_verdicts_are_what_every_rule_would_say():
    door = Door(
        deny=Networks.parse("10.0.0.0/8"),
        max_connections=100,
        max_connections_per_source=50,
        max_rate_per_source=Rate(50, 10.0),
        max_pending=EarlyDrop(1, 30, 8),
    )
    door.admit(STRANGER)

    assert door.verdicts() == [
        ("allow, deny", "admits", "allowed by a /0, denied by none"),
        ("max_connections", "admits", "1 of 100 connections are taken"),
        ("penalties", "admits", "0.0 s have accrued, enforced from 15 s"),
        (
            "max_rate_per_source",
            "admits",
            "1 of 50/10s are used, the next may come in 0.0 s",
        ),
        ("max_pending_per_source", "admits", "1 of 16 pending from its source"),
        ("max_connections_per_source", "admits", "1 of 50 connections from its source"),
        ("max_pending", "refuses 30 %", "1 are pending, of 1:30:8"),
    ]
    assert door.drawn == 0


def test_verdicts_end_with_the_first_that_refuses_for_sure():
    door = Door(deny=Networks.parse("203.0.113.0/24"))

    assert door.verdicts() == [
        ("allow, deny", "refuses", "allowed by a /0, denied by a /24"),
    ]


def test_a_rule_that_nothing_sets_is_not_there():
    door = Door(max_pending_per_source=None, penalties=None)

    assert door.verdicts(tls=True) == [("max_pending_tls", "admits", "0 are pending, of 64:30:256")]


def test_to_ask_changes_nothing():
    door = Door(max_connections=1, max_rate_per_source=Rate(1, 10.0))

    before = door.verdicts()
    for _ in range(10):
        assert door.verdicts() == before

    assert not isinstance(door.admit(STRANGER)[0], str)


def foretold(control, draw, address, **facts):
    """What a control will answer, going by its verdicts and by what is going to be drawn."""
    for each in control.verdicts(address, **facts):
        if each.odds >= 1 or draw < each.odds:
            return f"{each.rule}: {each.figures}"
    return None


class Crowd:
    """Random peers at a random door, from a seed."""

    HOSTS = (
        *(f"10.{a}.{b}.{c}" for a in (0, 1) for b in (0, 1) for c in (0, 1, 2)),
        *(f"2001:db8:{a:x}::{b:x}" for a in (0, 1) for b in (1, 2)),
        "127.0.0.1",
        "::1",
        "192.0.2.1",
    )
    REASONS = ("accepted", "rejected", "timeout", "lost", "probe", "limit", "violation", "crashed")

    def __init__(self, seed, dry_run=False):
        self.random = Random(seed)
        self.now = 0.0
        self.draw = 0.0
        self.control = AdmissionControl(
            self.policy(), seconds=lambda: self.now, random=lambda: self.draw, dry_run=dry_run
        )
        self.tickets = []

    def policy(self):
        random = self.random
        start = random.randint(1, 6)

        def networks():
            lengths = {"10": (8, 15, 16, 24, 31, 32), "20": (32, 47, 48, 64, 128)}
            chosen = []
            for host in random.sample(self.HOSTS[:16], random.randint(0, 4)):
                length = random.choice(lengths[host[:2]])
                network = ip_network(f"{host}/{length}", strict=False)
                chosen.append(str(network))
            return Networks.parse(",".join(chosen))

        return Policy(
            allow=random.choice([Networks.parse("all"), networks()]),
            deny=networks(),
            exempt=networks(),
            max_connections=random.choice([None, random.randint(1, 12)]),
            max_pending=EarlyDrop(start, random.randint(1, 100), random.randint(start, 9)),
            max_pending_tls=EarlyDrop(start, random.randint(1, 100), random.randint(start, 9)),
            max_pending_per_source=random.choice([None, random.randint(1, 4)]),
            max_connections_per_source=random.choice([None, random.randint(1, 6)]),
            max_rate_per_source=random.choice([None, Rate(random.randint(1, 5), 4.0)]),
            penalties=random.choice([None, Penalties()]),
            inet_prefix=random.choice([32, 24]),
            inet6_prefix=random.choice([64, 128]),
            max_sources=random.choice([1, 4, 65_536]),
        )

    def next_peer(self):
        """Time passes, some leave, and somebody comes."""
        random = self.random
        self.now += random.choice([0.0, 0.1, 1.0])
        self.draw = random.random()
        while self.tickets and random.random() < 0.5:
            ticket = self.tickets.pop(random.randrange(len(self.tickets)))
            ticket.settled(random.choice(self.REASONS), silent=random.random() < 0.5)
            if random.random() < 0.7:
                ticket.release()
            else:
                self.tickets.append(ticket)
        if random.random() < 0.1:
            return Address("unix"), {"uid": random.choice([None, 0, 1000])}
        address = Address.ip(random.choice(self.HOSTS), 1)
        return address, {"tls": random.random() < 0.3}


def test_verdicts_agree_with_what_happens():
    refused = admitted = 0
    for seed in range(500):
        crowd = Crowd(seed)
        for _ in range(200):
            address, facts = crowd.next_peer()
            expected = foretold(crowd.control, crowd.draw, address, **facts)

            answer = crowd.control.admit(address, **facts)

            if isinstance(answer, str):
                assert answer == expected
                refused += 1
            else:
                assert expected is None
                crowd.tickets.append(answer)
                admitted += 1

    assert refused + admitted == 100_000
    assert min(refused, admitted) > 10_000


# A cap at which nobody waits, and what is said at it


def test_where_nobody_waits_there_always_is_room_and_the_cap_refuses():
    door = Door(max_connections=1, wait=False)
    called = []
    door.admit(STRANGER)

    door.control.when_room(lambda: called.append("room"))

    assert (door.control.has_room, called) == (True, ["room"])
    assert door.admit(OTHER) == ["max_connections: 1 of 1 connections are taken"]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"max_connections": 1}, True),
        ({"max_connections_per_source": 1}, True),
        ({"max_pending_per_source": 1}, True),
        ({"max_pending": EarlyDrop(1, 100, 1)}, True),
        ({"max_rate_per_source": Rate(1, 10)}, True),
        ({"penalties": Penalties(threshold=1)}, False),
        ({"deny": Networks.parse("203.0.113.9")}, False),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else None,
)
def test_only_who_is_refused_at_a_cap_is_told_anything(policy, told):
    door = Door(goodbye=b"busy\n", **policy)
    first, *_ = door.admit(STRANGER)
    if "penalties" in policy:
        first.settled("violation")

    [refusal] = door.admit(STRANGER)

    assert isinstance(refusal, str)
    assert getattr(refusal, "goodbye", b"") == (b"busy\n" if told else b"")


def test_without_words_for_it_nobody_is_told_anything():
    door = Door(max_connections=1)
    door.admit(STRANGER)

    assert type(door.admit(STRANGER)[0]) is str


def test_the_cap_on_pending_handshakes_can_be_off():
    door = Door(max_pending=None, max_pending_tls=None, max_pending_per_source=None)

    for tls in (False, True):
        tickets = door.admit(*[STRANGER] * 2000, tls=tls)
        assert {each.patience for each in tickets} == {1.0}
    assert [rule for rule, *_ in door.verdicts()] == ["penalties"]


# Slots of which nobody knows yet whose they are


def test_a_slot_may_be_held_before_it_is_known_for_whom():
    door = Door(max_connections=1)
    held = door.control.hold()
    counts = door.control.counts
    assert (counts.connections, counts.pending, counts.connections_of) == (1, [0, 0], {})
    assert not door.control.has_room

    held.settled("timeout")
    assert (counts.connections, counts.pending) == (1, [0, 0])
    held.release()
    held.release()

    assert counts.connections == 0
    assert not isinstance(door.admit(STRANGER)[0], str)


def test_no_more_slots_are_held_than_there_may_be():
    door = Door(max_connections=1, goodbye=b"busy\n")
    door.control.hold()

    refusal = door.control.hold()

    assert refusal == "max_connections: 1 of 1 connections are taken"
    assert refusal.goodbye == b"busy\n"
    assert door.control.counts.connections == 1


def test_without_a_cap_any_number_is_held():
    door = Door()

    assert not any(isinstance(door.control.hold(), str) for _ in range(1000))
    assert door.control.counts.connections == 1000


def test_in_a_dry_run_a_slot_that_there_is_not_is_waived():
    door = Door(max_connections=1, dry_run=True)
    door.control.hold()

    waived = door.control.hold()

    assert waived.waived == "max_connections: 1 of 1 connections are taken"
    assert door.control.counts.connections == 1


# Whose fault it is


@pytest.mark.parametrize("reason", ["crashed", "timeout"])
def test_what_is_our_own_fault_costs_the_peer_nothing(reason):
    door = Door(penalties=Penalties(threshold=1))
    for _ in range(10):
        [ticket] = door.admit(STRANGER)
        ticket.settled(reason, ours=True)
        ticket.release()

    assert door.control.counts.connections == 0
    assert door.verdicts()[0] == (
        "penalties",
        "admits",
        "0.0 s have accrued, enforced from 1 s",
    )


# A dry run


def test_a_dry_run_admits_everybody_and_says_who_would_not_have_been():
    door = Door(dry_run=True, max_connections=1)

    first, second = door.admit(STRANGER, OTHER)

    assert first.waived is None
    assert second.waived == "max_connections: 1 of 1 connections are taken"
    assert second.patience == 1.0
    assert door.control.counts.connections == 1
    assert door.control.has_room


def test_in_a_dry_run_nobody_has_to_hurry():
    door = Door(dry_run=True, draw=1.0, max_pending=EarlyDrop(1, 1, 4), exempt=NO_LIMITS.allow)

    assert [ticket.patience for ticket in door.admit(*[STRANGER] * 5)] == [1.0] * 5


def test_who_would_have_been_refused_leaves_no_trace():
    door = Door(dry_run=True, max_connections=1)
    first, second = door.admit(STRANGER, OTHER)

    for _ in range(2):
        second.settled("crashed")
        second.release()
    assert door.control.counts.connections == 1

    first.release()
    assert [ticket.waived for ticket in door.admit(OTHER)] == [None]


def test_a_dry_run_waives_what_would_be_refused_in_earnest():
    for seed in range(50):
        dry, earnest = Crowd(seed, dry_run=True), Crowd(seed)
        for _ in range(100):
            address, facts = dry.next_peer()
            assert (address, facts) == earnest.next_peer()

            waived = dry.control.admit(address, **facts)
            answer = earnest.control.admit(address, **facts)

            assert waived.waived == (answer if isinstance(answer, str) else None)
            if waived.waived is None:
                dry.tickets.append(waived)
                earnest.tickets.append(answer)
        assert dry.control.counts.connections == earnest.control.counts.connections


# Whatever happens


class Entrance(RuleBasedStateMachine):
    """Two listeners at one control: what no sequence of events may break."""

    tickets = Bundle("tickets")

    @initialize(
        most=st.integers(1, 4),
        full=st.integers(1, 4),
        per_source=st.none() | st.integers(1, 3),
        rate=st.none() | st.just(Rate(2, 4.0)),
        dry_run=st.booleans(),
    )
    def start(self, most, full, per_source, rate, dry_run):
        self.now, self.draw, self.most, self.dry_run = 0.0, 0.0, most, dry_run
        cap = EarlyDrop(1, 50, full)
        self.full = full
        self.control = AdmissionControl(
            Policy(
                max_connections=most,
                max_pending=cap,
                max_pending_tls=cap,
                max_pending_per_source=per_source,
                max_connections_per_source=per_source,
                max_rate_per_source=rate,
            ),
            seconds=lambda: self.now,
            random=lambda: self.draw,
            dry_run=dry_run,
        )
        self.live, self.pending = [], []
        self.waiting = [False, False]

    @rule(
        target=tickets,
        address=st.sampled_from([STRANGER, OTHER, LOCAL]),
        tls=st.booleans(),
        draw=st.floats(0, 1, exclude_max=True),
    )
    def admit(self, address, tls, draw):
        self.draw = draw
        expected = foretold(self.control, draw, address, tls=tls)

        answer = self.control.admit(address, tls=tls)

        waived = answer if isinstance(answer, str) else answer.waived
        assert waived == expected
        assert isinstance(answer, str) == (waived is not None and not self.dry_run)
        if waived is None:
            self.live.append(answer)
            self.pending.append(answer)
        return answer

    @rule(
        ticket=tickets,
        reason=st.sampled_from(Crowd.REASONS),
        silent=st.booleans(),
    )
    def settle(self, ticket, reason, silent):
        if not isinstance(ticket, str):
            ticket.settled(reason, silent=silent)
            self.pending = [each for each in self.pending if each is not ticket]

    @rule(ticket=tickets)
    def release(self, ticket):
        # It stays in the bundle: to give it back once more must do nothing.
        if not isinstance(ticket, str):
            self.pending = [each for each in self.pending if each is not ticket]
            self.live = [each for each in self.live if each is not ticket]
            ticket.release()

    @rule(ticket=consumes(tickets))
    def forget(self, ticket):
        if not isinstance(ticket, str):
            self.release(ticket)

    @rule(listener=st.sampled_from([0, 1]))
    def pause(self, listener):
        if not self.waiting[listener]:
            self.waiting[listener] = True
            self.control.when_room(lambda: self.resume(listener))

    def resume(self, listener):
        assert self.waiting[listener]
        assert self.control.has_room
        self.waiting[listener] = False

    @rule(seconds=st.integers(1, 40))
    def advance(self, seconds):
        self.now += seconds / 2

    @invariant()
    def the_counts_are_those_of_the_live_connections(self):
        counts = self.control.counts
        assert counts.connections == len(self.live)
        assert counts.pending == [
            sum(each.tls == tls for each in self.pending) for tls in (False, True)
        ]
        for counted, slots in (
            (counts.connections_of, self.live),
            (counts.pending_of, self.pending),
        ):
            sources = [each.source for each in slots if each.source is not None]
            assert counted == {each: sources.count(each) for each in sources}

    @invariant()
    def no_cap_is_ever_passed(self):
        assert len(self.live) <= self.most
        assert max(self.control.counts.pending) <= self.full

    @invariant()
    def nobody_waits_while_there_is_room(self):
        assert self.control.has_room == (self.dry_run or len(self.live) < self.most)
        assert not (self.control.has_room and any(self.waiting))


Entrance.TestCase.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
test_no_sequence_of_events_breaks_what_is_promised = Entrance.TestCase
