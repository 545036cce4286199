"""What the command says of a peer, and what of a mistake."""

from __future__ import annotations

from random import Random

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python import usage
from twisted.python.failure import Failure

from sockproto import Address, AdmissionControl, Limits, PeerFacts
from sockproto.commands.explain import explain as explain_to
from sockproto.events import HandshakeEnded
from sockproto.handshakes.welcome import Welcome
from sockproto.service.options import Options
from sockproto.transport.gate import Gate
from sockproto.transport.terms import Terms

STRANGER = "203.0.113.9"


@pytest.fixture(autouse=True)
def operator(tmp_path, monkeypatch):
    """An operator in a folder of his own, whose server may have so many connections."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOCKSERVER_MAX_CONNECTIONS", "100")


@pytest.fixture
def explain(sockproto_command):
    """Explain; gives the exit status and the lines."""

    def explain(*arguments: str) -> tuple[int, list[str]]:
        status, out, err = sockproto_command("explain", "--from", *arguments)
        assert err == ""
        return status, out.splitlines()

    return explain


def test_every_rule_is_told_with_its_verdict_and_the_figures(explain):
    assert explain(STRANGER, "--max-rate-per-source", "5/10s", "--deny", "10.0.0.0/8") == (
        0,
        [
            "source                          203.0.113.9/32",
            "allow, deny             admits  allowed by a /0, denied by none",
            "max_connections         admits  0 of 100 connections are taken",
            "penalties               admits  0.0 s have accrued, enforced from 15 s",
            "max_rate_per_source     admits  0 of 5/10s are used, the next may come in 0.0 s",
            "max_pending_per_source  admits  0 of 16 pending from its source",
            "max_pending             admits  0 are pending, of 256:30:1024",
            "would be served",
        ],
    )


def test_the_first_rule_that_refuses_is_the_last_that_is_told(explain):
    assert explain(STRANGER, "--deny", "203.0.113.0/24") == (
        1,
        [
            "source                203.0.113.9/32",
            "allow, deny  refuses  allowed by a /0, denied by a /24",
            "would be refused by allow, deny",
        ],
    )


def test_in_a_dry_run_everybody_is_served(sockproto_command):
    status, out, err = sockproto_command(
        "explain", "--from", STRANGER, "--allow", "10.0.0.0/8", "--dry-run"
    )

    assert status == 0
    assert out.splitlines()[-1] == (
        "would be served, but only because this is a dry run; refused by allow, deny"
    )
    assert err == "sockproto: this is a dry run: nobody is refused, and no limit holds\n"


@pytest.mark.parametrize(
    ("arguments", "source"),
    [
        (["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (["2001:db8:1:2:3::4", "--source-prefix", "32,48"], "2001:db8:1::/48"),
        (["::ffff:203.0.113.9"], "203.0.113.9/32"),
        (["127.0.0.1"], "exempt"),
        (["unix", "--uid", "1000"], "exempt"),
        (["unix", "--uid", "1000", "--exempt", "none"], "user 1000"),
        (["unix"], "of no known source"),
    ],
)
def test_it_tells_which_source_somebody_belongs_to(explain, arguments, source):
    status, lines = explain(*arguments)

    assert (status, lines[0].split(maxsplit=1)[1]) == (0, source)


def test_where_tls_comes_first_another_cap_counts(explain):
    _, lines = explain(STRANGER, "--tls")

    assert lines[-2].split()[0] == "max_pending_tls"
    assert lines[-2].endswith("of 64:30:256")


def test_where_no_rule_is_left_somebody_is_served(explain):
    off = ["--max-connections", "off", "--penalties", "off"]
    off += ["--max-pending-per-source", "off", "--max-pending", "off"]

    assert explain(STRANGER, *off) == (0, ["source    203.0.113.9/32", "would be served"])


def test_the_settings_may_stand_wherever_the_server_finds_them(explain, tmp_path, monkeypatch):
    (tmp_path / "door.toml").write_text('deny = "203.0.113.9"\n')

    assert explain(STRANGER, "-c", "door.toml")[0] == 1
    monkeypatch.setenv("SOCKSERVER_CONFIG", "door.toml")
    assert explain(STRANGER)[0] == 1
    monkeypatch.setenv("SOCKSERVER_DENY", "none")
    assert explain(STRANGER)[0] == 0


def test_it_takes_every_option_of_the_server_that_serves(sockproto_command):
    _, out, _ = sockproto_command("explain", "--help")

    names = {name for name, *_ in Options.optParameters} | {
        "listen",
        "handshake",
        "session",
        "dry-run",
    }
    for name in names:
        assert f"--{name} " in out or f"--{name}\n" in out
    # Without its own and those that only ask.
    assert out.count("\n  --") + out.count("\n  -h") == len(names) + 4


def test_a_repeated_option_is_passed_on_in_order(explain):
    assert explain(STRANGER, "--listen", "tcp:1", "--listen=tcp:2", "-b", "7")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: --from"),
        (["--from", "203.0.113"], "argument --from: '203.0.113' is no address; write it like "),
        (["--from", STRANGER, "--uid", "-1"], "argument --uid: "),
        (["--from", "unix", "--uid", "4294967295"], "argument --uid: '4294967295' is not a user "),
        (["--from", STRANGER, "--uid", "0"], "--uid belongs to --from unix"),
        (["--from", STRANGER, "--max-pending", "x"], "--max-pending: 'x' is not a cap on pending"),
        (["--from", STRANGER, "--config", "no.toml"], "cannot read no.toml: No such file"),
        (["--from", STRANGER, "--handshake", "hello"], "unknown handshake 'hello'"),
        (["--from", STRANGER, "--nope"], "--nope is no option"),
        (["--from", STRANGER, "--allow", "a\nb"], r"--allow: 'a\nb' is not a network"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(sockproto_command, arguments, said):
    status, out, err = sockproto_command("explain", *arguments)

    assert err.startswith(f"sockproto: {said}")
    assert err.count("\n") == 1
    assert (status, out) == (2, "")


def test_what_the_server_cannot_parse_is_one_line_too(sockproto_command, monkeypatch):
    def refuse(options, arguments):
        raise usage.UsageError("it cannot be")

    monkeypatch.setattr(usage.Options, "parseOptions", refuse)

    status, _, err = sockproto_command("explain", "--from", STRANGER)

    assert (status, err) == (2, "sockproto: it cannot be\n")


# It agrees with what happens


class Wire:
    """Does what the gate tells it, by doing nothing."""

    def ignore(self, *told):
        """Nobody is at the other end."""

    write = half_close = close = abort = leave = start_tls = concluded = ignore
    pause_reading = resume_reading = ignore


class Server:
    """The gates of a server, its admission as some options have it, and all verdicts."""

    def __init__(self, options: Options, draw: float = 1.0):
        self.clock = Clock()
        self.clock.advance(1000)
        self.admission = AdmissionControl(
            options.policy_for(20_000),
            seconds=self.clock.seconds,
            random=lambda: draw,
            dry_run=options.dry_run,
        )
        self.verdicts: list[HandshakeEnded] = []
        self.terms = Terms(
            Welcome().serve,
            None,
            serving=True,
            limits=Limits(),
            admission=self.admission,
            observers=[self.note],
            clock=self.clock,
        )

    def note(self, event):
        if isinstance(event, HandshakeEnded):
            self.verdicts.append(event)

    def visit(self, address, uid, tls):
        """Somebody comes; gives the gate, and why it was refused, or None."""
        before = len(self.verdicts)
        gate = Gate(self.terms, Wire(), PeerFacts(address, LOCAL, uid=uid))
        gate.open(tls)
        for verdict in self.verdicts[before:]:
            assert (verdict.reason, verdict.phase) == ("refused", "admission")
            return gate, verdict.detail
        return gate, None


LOCAL = Address.ip("198.51.100.1", 443)


class Chance:
    """Draws rules, peers, and what becomes of them."""

    def __init__(self, seed):
        self.draw = Random(seed)

    def rules(self, *more: str) -> Options:
        some = self.draw.randint
        caps = ["off", *("1", "2", "5", "50")]
        given = {
            "--max-connections": self.draw.choice(caps),
            "--max-connections-per-source": self.draw.choice(caps),
            "--max-pending-per-source": self.draw.choice(caps),
            "--max-pending": self.draw.choice(["off", "1:50:20", "20", "5:1:9"]),
            "--max-pending-tls": self.draw.choice(["off", "1:50:20", "20", "5:1:9"]),
            "--max-rate-per-source": self.draw.choice(["off", "2/1s", "5/1m"]),
            "--allow": self.draw.choice(["all", self.networks()]),
            "--deny": self.draw.choice(["none", self.networks()]),
            "--exempt": self.draw.choice(["none", "unix", self.networks()]),
            "--penalties": self.draw.choice(["on", "off"]),
            "--source-prefix": f"{some(0, 32)},{some(0, 128)}",
        }
        options = Options()
        options.parseOptions([*more, *(word for pair in given.items() for word in pair)])
        return options

    def networks(self) -> str:
        some = self.draw.randint
        inet = [f"{some(0, 3)}.0.0.0/8", f"1.{some(0, 3)}.0.0/16", f"1.1.1.{some(0, 3)}"]
        inet6 = [f"2001:db8:{some(0, 3)}::/48", f"2001:db8:1:{some(0, 3)}::/64", "::/0"]
        return ",".join(self.draw.sample([*inet, *inet6], some(1, 4)))

    def peer(self):
        """An address, a user and whether TLS comes first."""
        some, tls = self.draw.randint, self.draw.random() < 0.3
        kind = self.draw.random()
        if kind < 0.5:
            host = f"{some(0, 3)}.{some(0, 3)}.{some(0, 1)}.{some(0, 3)}"
        elif kind < 0.6:
            host = f"::ffff:1.1.1.{some(0, 3)}"
        elif kind < 0.9:
            host = f"2001:db8:{some(0, 3)}:{some(0, 3)}::{some(0, 3):x}"
        else:
            return Address("unix"), self.draw.choice([None, 0, 1000]), tls
        return Address.ip(host, 4711), None, tls

    def goes_on(self, server, gates):
        """Somebody says something, or goes; or time passes."""
        kind = self.draw.random()
        if kind < 0.6 and gates:
            gate = gates.pop(self.draw.randrange(len(gates)))
            gate.data_received(self.draw.choice([b"", b"1", b"2"]))
            gate.wire_lost(Failure(ConnectionDone()))
        elif kind < 0.7:
            server.clock.advance(self.draw.choice([0.1, 1, 10, 100]))


@pytest.mark.slow
def test_it_agrees_with_what_happens_for_a_hundred_thousand_peers():
    chance, served, refused = Chance(4), 0, 0
    for _ in range(1000):
        # Drawn so, only who is dropped for sure is dropped.
        server, gates = Server(chance.rules()), []
        for _ in range(100):
            peer, uid, tls = chance.peer()
            rows, refusing = explain_to(server.admission, peer, uid=uid, tls=tls)

            gate, detail = server.visit(peer, uid, tls)

            if detail is None:
                assert refusing is None
                served += 1
            else:
                assert (refusing, f"{rows[-1][0]}: {rows[-1][2]}") == (rows[-1][0], detail)
                refused += 1
            gates.append(gate)
            chance.goes_on(server, gates)
    assert (served + refused, min(served, refused) > 20_000) == (100_000, True)


@pytest.mark.parametrize(
    "rounds", [pytest.param(10), pytest.param(300, marks=pytest.mark.slow)], ids=["some", "many"]
)
def test_a_dry_run_never_changes_who_is_served(rounds):
    waived = 0
    for seed in range(rounds):
        chance = Chance(seed)
        # Whatever is drawn.
        server = Server(chance.rules("--dry-run"), draw=chance.draw.random())
        gates = []
        for _ in range(100):
            gate, detail = server.visit(*chance.peer())
            assert detail is None
            waived += gate._ticket.waived is not None
            gates.append(gate)
            chance.goes_on(server, gates)
        assert server.admission.has_room
        assert not {"refused"} & {each.reason for each in server.verdicts}
    assert waived > 10 * rounds
