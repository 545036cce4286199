"""
No sequence of events breaks what admission promises, by a model that knows none of its code.

Beside the real thing runs a reckoning of what should be: a list of who is in, a bucket of tokens
and a sum of penalties for each source. Times are whole halves of seconds, so that both are exact.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from sockproto.admission.control import AdmissionControl
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.penalties import Penalties
from sockproto.admission.policy import Policy
from sockproto.admission.rate import Rate
from sockproto.core.facts import Address

SOURCES = {
    Address.ip("203.0.113.1", 1): "one",
    Address.ip("::ffff:203.0.113.1", 2): "one",
    Address.ip("2001:db8::1", 3): "network",
    Address.ip("2001:db8::ffff:1", 4): "network",
    Address.ip("127.0.0.1", 5): None,
    Address.ip("192.0.2.9", 6): "denied",
}
COSTS = {"rejected": 5, "timeout": 10, "silence": 1, "limit": 10, "violation": 10, "crashed": 90}
HARMLESS = ("accepted", "probe", "lost", "refused", "shutdown")
THRESHOLD, MOST = 15, 600


class Source:
    """What a source has done, and may still do."""

    def __init__(self, burst):
        self.tokens = burst
        self.owes = 0
        self.shut = False


class Reckoning(RuleBasedStateMachine):
    """The entrance, the model beside it, and two listeners who may have to wait."""

    @initialize(
        most=st.integers(1, 6),
        pending=st.integers(1, 4),
        per_source=st.integers(1, 4),
        burst=st.sampled_from([2, 4]),
        dry_run=st.booleans(),
    )
    def start(self, most, pending, per_source, burst, dry_run):
        self.most, self.most_pending, self.per_source, self.burst = most, pending, per_source, burst
        self.dry_run = dry_run
        self.now = 0.0
        self.sources = {name: Source(burst) for name in SOURCES.values() if name}
        self.inside = []
        self.gone = []
        self.waiting = []
        self.control = AdmissionControl(
            Policy(
                deny=Networks.parse("192.0.2.0/24"),
                max_connections=most,
                max_pending=EarlyDrop.parse("99"),
                max_pending_tls=EarlyDrop.parse("99"),
                max_pending_per_source=pending,
                max_connections_per_source=per_source,
                max_rate_per_source=Rate(burst, burst / 2),
                penalties=Penalties(),
            ),
            seconds=lambda: self.now,
            dry_run=dry_run,
        )

    def refusal(self, address):
        """By which rule somebody should be refused, if by any."""
        source = self.sources.get(SOURCES[address])
        mine = [each for each in self.inside if source and each["source"] is source]
        if SOURCES[address] == "denied":
            return "allow, deny"
        if len(self.inside) >= self.most:
            return "max_connections"
        if source is None:
            return None
        if source.shut:
            return "penalties"
        if source.tokens < 1:
            return "max_rate_per_source"
        if sum(each["pending"] for each in mine) >= self.most_pending:
            return "max_pending_per_source"
        return "max_connections_per_source" if len(mine) >= self.per_source else None

    @rule(address=st.sampled_from(list(SOURCES)), tls=st.booleans())
    def come(self, address, tls):
        expected = self.refusal(address)
        answer = self.control.admit(address, tls=tls)

        said = answer if isinstance(answer, str) else answer.waived
        assert (said and said.partition(":")[0]) == expected
        assert isinstance(answer, str) == (expected is not None and not self.dry_run)
        if expected is None:
            source = self.sources.get(SOURCES[address])
            if source is not None:
                source.tokens -= 1
            self.inside.append({"ticket": answer, "source": source, "tls": tls, "pending": True})
        elif self.dry_run:
            answer.settled("crashed")
            answer.release()

    @precondition(lambda self: any(each["pending"] for each in self.inside))
    @rule(data=st.data(), reason=st.sampled_from([*COSTS, *HARMLESS]), again=st.booleans())
    def decide(self, data, reason, again):
        one = data.draw(st.sampled_from([each for each in self.inside if each["pending"]]))
        for _ in range(1 + again):
            if reason == "silence":
                one["ticket"].settled("timeout", silent=True)
            else:
                one["ticket"].settled(reason)
        one["pending"] = False
        source = one["source"]
        if source is not None and reason in COSTS:
            source.owes = min(source.owes + COSTS[reason], MOST)
            source.shut = source.shut or source.owes >= THRESHOLD

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), again=st.booleans())
    def leave(self, data, again):
        one = data.draw(st.sampled_from(self.inside))
        self.inside.remove(one)
        self.gone.append(one["ticket"])
        for _ in range(1 + again):
            one["ticket"].release()

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def leave_once_more(self, data):
        ticket = data.draw(st.sampled_from(self.gone))
        ticket.settled("crashed")
        ticket.release()

    @rule()
    def wait_for_room(self):
        listener = object()
        self.waiting.append(listener)
        self.control.when_room(lambda: self.resume(listener))

    def resume(self, listener):
        assert self.control.has_room
        self.waiting.remove(listener)

    @rule(halves=st.sampled_from([1, 2, 10, 40, 400]))
    def pass_time(self, halves):
        self.now += halves / 2
        for source in self.sources.values():
            # A token in half a second.
            source.tokens = min(self.burst, source.tokens + halves)
            source.owes = max(0, source.owes - halves / 2)
            source.shut = source.shut and source.owes > 0

    @invariant()
    def the_counts_are_those_of_who_is_in(self):
        counts = self.control.counts
        assert counts.connections == len(self.inside) <= self.most
        assert counts.pending == [
            sum(each["pending"] and each["tls"] is tls for each in self.inside)
            for tls in (False, True)
        ]
        owned = [each for each in self.inside if each["source"]]
        assert sum(counts.connections_of.values()) == len(owned)
        assert sum(counts.pending_of.values()) == sum(each["pending"] for each in owned)
        assert 0 not in counts.connections_of.values()
        assert 0 not in counts.pending_of.values()

    @invariant()
    def nobody_waits_while_there_is_room(self):
        assert self.control.has_room == (self.dry_run or len(self.inside) < self.most)
        assert not (self.waiting and self.control.has_room)

    def teardown(self):
        for one in self.inside:
            one["ticket"].release()
        counts = self.control.counts
        assert (counts.connections, counts.pending) == (0, [0, 0])
        assert counts.connections_of == counts.pending_of == {}
        assert self.waiting == []


def test_what_is_answered_and_counted_is_what_a_reckoning_says():
    run(Reckoning, settings=settings(max_examples=40, stateful_step_count=40, deadline=None))


@pytest.mark.slow
def test_no_long_sequence_of_events_differs_from_the_reckoning():
    run(Reckoning, settings=settings(max_examples=1000, stateful_step_count=60, deadline=None))
