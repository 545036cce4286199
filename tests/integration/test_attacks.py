"""
The attacks of the kit on a guarded server, with the honest client as the judge.

The sizes are those that a test can afford. docs/explanation/attacks.rst has the figures of the full
ones.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sockproto.core.errors import ConfigurationError
from sockproto.testing.attack import KINDS, Plan, Report, run
from sockproto.testing.attack.household import Household

from .kit import Sockserver, Starter, eventually, free_port, resident, room_for

MIB = 1024**2

SERVER = """
import gc, json, os, signal, sys
from twisted.internet import reactor
from sockproto import AdmissionControl, Limits, Networks, Policy, ServerFactory
from sockproto.admission.early_drop import EarlyDrop
from sockproto.handshakes.welcome import Welcome
from sockproto.transport.endpoints import listen

def tell(number, frame):
    reactor.callFromThread(count)

def count():
    gc.collect()
    said = {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "timers": len(reactor.getDelayedCalls()),
        "live": len(factory.terms.live),
        "deadlines": len(factory.terms.deadlines),
        "connections": control.counts.connections,
        "pending": sum(control.counts.pending),
        "blocks": sys.getallocatedblocks(),
    }
    print("counted", json.dumps(said), flush=True)

limits = Limits(**json.loads(sys.argv[1]))
policy = Policy(exempt=Networks(), max_pending=EarlyDrop.parse(sys.argv[2]))
control = AdmissionControl(policy)
factory = ServerFactory(Welcome(), admission=control, limits=limits)
port = listen(reactor, "tcp:0:interface=127.0.0.1", factory)
signal.signal(signal.SIGUSR1, tell)
print(f"sockproto 0 listens on 127.0.0.1:{port.getHost().port}", flush=True)
reactor.run()
"""

SHORT = {"idle_timeout": 1.0, "handshake_timeout": 2.0, "close_timeout": 1.0}


class Guarded(Sockserver):
    """A server with its admission on, and nobody exempt; it can be asked for its counts."""

    asked = 0

    @property
    def target(self) -> str:
        host, port = self.place
        return f"{host}:{port}"

    def counts(self) -> dict[str, int]:
        self.asked += 1
        self.send(signal.SIGUSR1)
        told: dict[str, int] = json.loads(self.wait_for("^counted (.*)", self.asked)[1])
        return told

    def leftovers(self) -> dict[str, int]:
        """What it holds, as far as that is exactly as it was when nobody is there."""
        return {name: number for name, number in self.counts().items() if name != "blocks"}

    def trouble(self) -> list[str]:
        """What it has said that it should not have."""
        return [line for line in self.lines if not line.startswith(("sockproto", "counted"))]


@dataclass
class Guard:
    start: Starter
    servers: list[Guarded]

    def __call__(self, *, max_pending: str = "256:30:1024", **limits: float) -> Guarded:
        room_for(20_000)
        command = [sys.executable, "-c", SERVER, json.dumps(limits), max_pending]
        server = Guarded(command, cwd=self.start.cwd)
        self.servers.append(server)
        return server


@pytest.fixture
def guard(start: Starter) -> Iterator[Guard]:
    """Starts guarded servers; they are gone when the test is over."""
    guard = Guard(start, [])
    yield guard
    for each in guard.servers:
        each.discard()


def attack(server: Guarded, kind: str, **more: Any) -> Report:
    usual = {"quiet": 1.0, "after": 1.0, "sources": "127.1.0.0/18"}
    return run(Plan.read(kind, server.target, **{**usual, **more}))


@pytest.mark.slow
def test_a_silent_crowd_of_one_address_keeps_nobody_else_out(guard):
    server = guard()

    report = attack(
        server, "hold", sources="127.0.0.2", connections=300, duration=2.0, quiet=0.5, after=0.5
    )

    assert report.tally.connected >= 300
    assert report.tally.most >= 16
    for phase in (report.quiet, report.attack, report.after):
        assert (phase.first_try, phase.trouble) == (1.0, {})
        assert phase.visits


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_attacks_and_ends_and_leaves_nothing(guard, kind):
    server = guard(**SHORT)
    before = server.leftovers()

    report = attack(server, kind, duration=2.0, connections=40, after=2.5, return_after=0.1)

    assert report.tally.connected >= 40
    assert report.attack.served == report.after.first_try == 1.0
    eventually(lambda: server.leftovers() == before)
    assert server.trouble() == []


@pytest.mark.slow
def test_five_thousand_attempts_held_by_one_address_keep_nobody_else_out(guard):
    server = guard()

    report = attack(server, "hold", sources="127.0.0.2", connections=5000, duration=12.0)

    assert report.tally.attempts >= 5000
    assert report.attack.first_try == 1.0
    assert report.after.first_try == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("return_after", [0.1, 1.0, 5.0])
def test_a_crowd_of_many_addresses_leaves_full_service_behind(guard, return_after):
    server = guard(max_pending="64:30:256", **SHORT)
    eventually(lambda: server.counts()["pending"] == 0)
    before = resident(server.pid)

    report = attack(
        server, "hold", connections=500, duration=12.0, after=8.0, return_after=return_after
    )

    # Some are served meanwhile, and everybody soon after.
    assert report.attack.served
    assert report.recovery is not None
    assert resident(server.pid) - before < 64 * MIB
    eventually(lambda: server.counts()["connections"] == 0)
    assert server.trouble() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("reset", {"total": 40_000, "rate": 3500.0}),
        ("oversize", {"amount": 1024 * MIB}),
        ("half-close", {"total": 10_000}),
        ("flood", {"total": 20_000}),
    ],
)
def test_whoever_makes_much_of_it_leaves_nothing_and_keeps_nobody_out(guard, kind, more):
    server = guard()
    # What is made once is not what an attack leaves behind.
    attack(server, kind, **{**more, "total": 500, "amount": MIB, "duration": 1.0})
    eventually(lambda: server.counts()["connections"] == 0)
    counted, held = server.counts(), resident(server.pid)

    # It is over as soon as they have had enough, however long that takes.
    report = attack(server, kind, after=2.0, duration=300.0, **more)

    assert report.tally.attempts == more.get("total", report.tally.attempts)
    assert report.attack.served == report.after.served == 1.0
    blocks = counted.pop("blocks")
    eventually(lambda: server.leftovers() == counted)
    more_blocks, grown = server.counts()["blocks"] - blocks, resident(server.pid) - held
    print(f"\n{more_blocks} blocks and {grown} bytes more")
    # What Python holds is exact: not one thing for every tenth of those who have come.
    assert more_blocks < max(400, report.tally.attempts / 10)
    # What the allocators hold is not, and is pages at a time.
    assert grown < 8 * MIB
    assert server.trouble() == []


@pytest.mark.slow
def test_cycles_of_thousands_of_connections_leave_everything_as_it_was(guard):
    # Room for all of them: who is dropped is chosen at random, and no two cycles would be alike.
    # And time for the last to come before the first is shown out.
    limits = {**SHORT, "idle_timeout": 2.5, "handshake_timeout": 5.0}
    server = guard(max_pending="20000:100:20000", **limits)
    counted = []
    for _ in range(6):
        report = attack(
            server, "hold", total=1000, connections=1000, duration=4.0, quiet=0.2, after=0.5
        )
        assert (report.tally.most, report.attack.first_try) == (1000, 1.0)
        eventually(lambda: server.counts()["connections"] == 0)
        counted.append(server.counts())

    blocks = [each.pop("blocks") for each in counted]
    assert all(each == counted[0] for each in counted)
    # What Python holds, and not the resident set, which follows when the allocator likes. Had each
    # of four thousand left one thing behind, there were so many more.
    print(f"\n{blocks} blocks")
    assert blocks[-1] - blocks[1] < 400


# A server that the kit starts.


def listening_at(port: int) -> str:
    return f"{sys.executable} -m sockproto.testing.attack.bare_twisted {port}"


@pytest.mark.slow
def test_a_server_that_is_started_for_the_attack_is_measured_and_stopped():
    port = free_port()
    plan = Plan.read(
        "hold",
        f"127.0.0.1:{port}",
        send=b"sesame\n",
        expect=b"OK\n",
        connections=200,
        duration=2.0,
        quiet=0.5,
        after=1.5,
    )

    report = run(plan, command=listening_at(port))

    taken = report.taken
    assert taken is not None
    assert taken.before.processes == 1
    assert taken.most.descriptors - taken.before.descriptors >= 200
    assert taken.after.descriptors <= taken.before.descriptors + 1
    assert taken.before.memory > MIB
    # Gone with its port: it can be had again.
    with Household(listening_at(port), port) as again:
        assert again.figures().processes == 1


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("no-such-program", "cannot start no-such-program: no such file or directory"),
        ("", "cannot start an empty command: there is nothing in it"),
        ("sh -c 'echo it broke; exit 3'", "the command has ended: it broke"),
    ],
)
def test_a_command_that_fails_is_told_in_one_line(command, sentence):
    with pytest.raises(ConfigurationError) as caught:
        Household(command, free_port())
    assert str(caught.value) == sentence


def test_nobody_attacks_what_does_not_serve_in_quiet():
    port = free_port()

    with pytest.raises(ConfigurationError) as caught:
        run(Plan.read("hold", f"127.0.0.1:{port}"))

    assert str(caught.value) == (
        f"127.0.0.1:{port} does not serve the honest client, before any attack: "
        "connection refused; is it up, and are --send and --expect its words?"
    )


def test_a_server_with_other_words_is_not_attacked(guard):
    server = guard()

    with pytest.raises(ConfigurationError, match=r"the answer is b'please go out!', expected b'"):
        run(Plan.read("hold", server.target, send=b"2"))


@pytest.mark.slow
def test_rivals_that_are_installed_are_compared(capsys, tmp_path):
    from sockproto.testing.attack.compare import compare
    from sockproto.testing.attack.rivals import RIVALS

    present = [name for name, each in RIVALS.items() if not each.missing()]
    options = ["--duration", "1s", "--after", "1s", "--connections", "20"]

    status = compare(["hold", *options, "--json", str(tmp_path / "figures.json")])

    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    for name in present:
        [row] = [line for line in lines if line.lower().startswith(f"  {name} ")]
        assert row.split()[1:3] == ["100", "%"], row
    figures = json.loads((tmp_path / "figures.json").read_text())
    [reports] = figures["attacks"].values()
    assert [name.lower() for name in reports] == present
