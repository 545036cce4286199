"""
Attack a server on this machine, and let an honest client be the judge.

::

    from sockproto.testing.attack import Plan, run

    def test_a_crowd_of_silent_peers_keeps_nobody_out():
        report = run(Plan.read("hold", "127.0.0.1:8471", connections=500))
        assert report.attack.first_try == 1.0

What a server claims for itself proves little, and what the attacker sees proves less. So a prober
stands beside every attack: an honest client in a process of its own, at an address of its own, that
says its word again and again, first in quiet and then under the attack. Its share of answers is the
result.

Nothing leaves the machine: targets and sources are loopback addresses, or the plan is refused. And
every attack has an end: its connections, its tries, its bytes and its seconds are bounded by the
plan, and no plan goes beyond :data:`~sockproto.testing.attack.plan.BOUNDS`.

The parts, from the bottom: ``plan`` (what is asked for), ``loop`` (sockets and time, with epoll),
``attackers``, ``crew`` and ``tally`` (who attacks), ``prober`` (who judges), ``child`` (both in
processes of their own), ``phases`` (what the visits say), ``household`` (a server that we start,
and what it takes), ``conduct`` (all of it in order), ``report``, and ``rivals`` with ``compare``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockproto._lazy import lazy_names

if TYPE_CHECKING:
    from sockproto.testing.attack.conduct import run
    from sockproto.testing.attack.phases import Phase
    from sockproto.testing.attack.plan import KINDS, Plan
    from sockproto.testing.attack.report import Report

_HOME = {
    "KINDS": "plan",
    "Phase": "phases",
    "Plan": "plan",
    "Report": "report",
    "run": "conduct",
}

__all__ = ["KINDS", "Phase", "Plan", "Report", "run"]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
