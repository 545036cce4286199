"""The command line of the service: what it makes of it, and what it says of a mistake."""

from __future__ import annotations

import platform
import sys
import traceback
from dataclasses import fields, replace
from math import inf

import pytest
from twisted.internet.protocol import Factory

from sockproto import Accept, ConfigurationError, Exchange, Limits, Reject, Secret
from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.policy import DEFAULT_POLICY
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.service.options import Options
from sockproto.service.policy import POLICY_OPTIONS
from sockproto.sessions.discard import Discard
from sockproto.sessions.echo import Echo
from sockproto.transport.proxy import ProxyPolicy

HERE = __name__
CANARY = "sesame4711"
WARNING = (
    "the secret of {} stands on the command line, where every user of this machine can read it; "
    "put it into a file or the environment"
)


class OneSided:
    async def connect(self, peer):
        return Accept()


class Door(Welcome):
    """A lesson of one's own."""


class Breaks:
    def __init__(self) -> None:
        raise RuntimeError("the database\nis gone")


class Locked(Factory):
    def __init__(self, key: Secret) -> None:
        if key == b"wrong":
            raise ConfigurationError("that key fits nothing")


@pytest.fixture(autouse=True)
def operator(tmp_path, monkeypatch):
    """An operator in a folder of his own, who has set nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    for name in ("LISTEN", "HANDSHAKE", "SESSION", "CONFIG", "BACKLOG", "IDLE_TIMEOUT"):
        monkeypatch.delenv(f"SOCKSERVER_{name}", raising=False)


@pytest.fixture
def write(tmp_path):
    """Write a file of settings, and give its name."""

    def write(text: str) -> str:
        (tmp_path / "door.toml").write_text(text)
        return "door.toml"

    return write


def parse(*arguments: str) -> Options:
    options = Options()
    options.parseOptions(arguments)
    return options


def complaint(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    said = str(caught.value)
    assert said.startswith("sockserver: ")
    assert said.isprintable()
    return said.removeprefix("sockserver: ")


def built(factory):
    return type(factory.buildProtocol(None))


# What nobody has said is the lesson's.


def test_without_options_it_is_the_lesson():
    options = parse()

    assert options.listen == ("tcp:8001:interface=127.0.0.1",)
    assert options.backlog == 4096
    assert type(options.handshake) is Welcome
    assert options.handshake.token == b"1"
    assert options.session is None
    assert options.limits == Limits()
    assert options.proxy is None
    assert options.policy_for(1024) == replace(DEFAULT_POLICY, max_connections=448)
    assert not options.dry_run
    assert options.access_log == "-"
    assert options.udp_max_amplification == 1
    assert options.try_it == "--send 1"
    assert options.warnings == []


def test_every_default_stands_in_the_help():
    text = Options().getUsage()

    for default in ("[tcp:8001:interface=127.0.0.1]", "[4096]", "[welcome]", "[none]"):
        assert default in text
    for default in ("[5s]", "[10s]", "[4k]"):
        assert default in text


def test_every_limit_has_an_option_with_its_words():
    text = " ".join(Options().getUsage().split())

    for each in fields(Limits):
        assert f"--{each.name.replace('_', '-')}=" in text
        assert each.metadata["help"] in text


def test_every_rule_of_admission_has_an_option_with_its_words():
    text = " ".join(Options().getUsage().split())

    for name, each in POLICY_OPTIONS.items():
        assert f"--{name}=" in text
        assert f"{each.help} [{each.default}]" in text


# What the command line says.


def test_it_listens_on_everything_that_is_given():
    assert parse("--listen", "tcp:8471").listen == ("tcp:8471",)
    assert parse("--listen=tcp:1", "--listen", "unix:/run/door").listen == (
        "tcp:1",
        "unix:/run/door",
    )


@pytest.mark.parametrize("option", ["--backlog", "-b"])
def test_the_backlog_is_a_whole_number(option):
    assert parse(option, "64").backlog == 64


def test_each_limit_is_a_time_or_a_size():
    options = parse(
        *("--idle-timeout", "500ms"),
        *("--handshake-timeout", "2m"),
        *("--close-timeout", "off"),
        *("--max-handshake-bytes", "16k"),
    )

    assert options.limits == Limits(
        idle_timeout=0.5, handshake_timeout=120.0, close_timeout=inf, max_handshake_bytes=16384
    )


def test_a_session_has_bounds_of_its_own():
    options = parse("--session-idle-timeout", "2m", "--session-lifetime", "1h")

    assert options.limits == Limits(session_idle_timeout=120, session_lifetime=3600)


def test_who_may_start_is_said_by_many_options_together():
    options = parse("--max-connections", "7", "--max-pending", "5:10:20", "--exempt", "none")

    assert options.policy_for(1024) == replace(
        DEFAULT_POLICY,
        max_connections=7,
        max_pending=EarlyDrop(5, 10, 20),
        exempt=Networks(),
        exempt_unix=False,
    )


def test_in_a_dry_run_the_operator_should_know(monkeypatch):
    for options in (parse("--dry-run"), parse("--dry-run", "--dry-run")):
        assert options.dry_run
        assert options.warnings == ["this is a dry run: nobody is refused, and no limit holds"]
    monkeypatch.setenv("SOCKSERVER_DRY_RUN", "on")
    assert parse().dry_run
    monkeypatch.setenv("SOCKSERVER_DRY_RUN", "off")
    assert not parse().dry_run


@pytest.mark.parametrize("where", ["-", "off", "/var/log/door.log"])
def test_the_access_log_goes_where_it_is_told(where):
    assert parse("--access-log", where).access_log == where


@pytest.mark.parametrize("version", ["v1", "v2", "auto"])
def test_the_proxies_that_are_believed_are_networks(version):
    options = parse("--proxy-protocol", version, "--proxy-allow-from", "10.0.0.0/8, ::1")

    assert options.proxy == ProxyPolicy(version, Networks.parse("10.0.0.0/8,::1"))
    assert options.warnings == []


def test_without_a_protocol_the_proxies_are_not_asked_and_the_operator_should_know():
    for more in ([], ["--proxy-protocol", "off"]):
        options = parse("--proxy-allow-from", "10.0.0.0/8", *more)
        assert options.proxy is None
        assert options.warnings == [
            "--proxy-allow-from is set, but no PROXY header is read; "
            "say --proxy-protocol v1, v2 or auto as well"
        ]
    assert parse("--proxy-allow-from", "none").warnings == []


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "18x", "", "9" * 400])
def test_an_amplification_is_a_number_above_0(text):
    assert complaint("--udp-max-amplification", text) == (
        f"--udp-max-amplification: {text!r} is no ratio; give a number above 0, like 1 or 18"
    )


def test_a_handshake_is_made_with_its_arguments():
    options = parse("--handshake", "welcome:2:goodbye=go away")

    assert options.handshake.token == b"2"
    assert options.handshake.goodbye == b"go away"


def passed(options, data):
    exchange = Exchange(options.handshake.serve)
    exchange.receive_data(data)
    return exchange.outcome


def test_handshakes_given_again_are_a_chain(write):
    given = parse("--handshake", "passphrase:a b", "--handshake", "passphrase:c")
    listed = parse("--config", write('handshake = ["passphrase:a b", "passphrase:c"]'))

    for options in (given, listed):
        assert passed(options, b"a b\nc\n") == Accept(b"OK\n")
        assert passed(options, b"a b\nd\n") == Reject(b"NO\n", reason="wrong word")
        assert options.try_it == "--handshake passphrase:... --handshake passphrase:..."
    assert given.warnings == [WARNING.format("handshake chain")]
    assert listed.warnings == []


def test_in_the_environment_a_blank_is_part_of_a_handshake(monkeypatch):
    monkeypatch.setenv("SOCKSERVER_HANDSHAKE", r"chain:passphrase\:a b:passphrase\:c")

    assert passed(parse(), b"a b\nc\n") == Accept(b"OK\n")


def test_an_empty_list_of_handshakes_is_told(write):
    assert complaint("--config", write("handshake = []")) == (
        "handshake in door.toml is empty; name a handshake like welcome"
    )


def test_the_name_of_a_session_may_have_a_version():
    options = parse("--session", "chat/1.0=echo", "--session", "chat/2=discard")

    assert list(options.session) == ["chat/1.0", "chat/2"]


def test_a_session_is_a_factory_without_a_name():
    options = parse("--session", "echo")

    assert options.session is not None
    assert list(options.session) == [""]
    assert built(options.session[""]) is Echo


def test_sessions_by_name_keep_their_order():
    options = parse("--session", "loud-1=echo", "--session", "discard", "--session", "x=discard")

    assert options.session is not None
    assert [(name, built(each)) for name, each in options.session.items()] == [
        ("loud-1", Echo),
        ("", Discard),
        ("x", Discard),
    ]


def test_an_argument_with_an_equals_sign_is_no_name_of_a_session():
    options = parse("--session", f"{HERE}:Locked:key=c2VzYW1l==")

    assert options.session is not None
    assert list(options.session) == [""]


def test_the_last_of_two_is_meant():
    assert parse("--backlog", "1", "--backlog", "2").backlog == 2


def test_a_module_is_found_in_the_working_directory(tmp_path, monkeypatch):
    name = "found_in_front_of_the_operator"
    (tmp_path / f"{name}.py").write_text("from sockproto.handshakes.welcome import Welcome as Own")
    monkeypatch.delitem(sys.modules, name, raising=False)

    assert type(parse("--handshake", f"{name}:Own").handshake) is Welcome
    monkeypatch.delitem(sys.modules, name)


# What else may say it.


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(write, monkeypatch):
    file = write('idle-timeout = "1s"\nclose-timeout = "1s"\nhandshake-timeout = "1s"\n')
    monkeypatch.setenv("SOCKSERVER_CLOSE_TIMEOUT", "2s")
    monkeypatch.setenv("SOCKSERVER_HANDSHAKE_TIMEOUT", "2s")

    options = parse("--config", file, "--handshake-timeout", "3s")

    assert options.limits == Limits(idle_timeout=1, close_timeout=2, handshake_timeout=3)


def test_everything_can_stand_in_a_file(write):
    file = write(
        'listen = ["tcp:1", "tcp:2"]\nbacklog = 7\nhandshake = "welcome:2"\n'
        'session = ["a=echo", "b=discard"]\nidle-timeout = 2.5\nmax-handshake-bytes = "1k"\n'
        'proxy-protocol = "v2"\nproxy-allow-from = "10.0.0.0/8"\naccess-log = "off"\n'
        "udp-max-amplification = 2.5\n"
        'max-connections = 7\ndeny = "192.0.2.0/24"\npenalties = false\ndry-run = true\n'
    )

    options = parse("-c", file)

    assert options.listen == ("tcp:1", "tcp:2")
    assert options.backlog == 7
    assert options.handshake.token == b"2"
    assert options.session is not None
    assert list(options.session) == ["a", "b"]
    assert options.limits == Limits(idle_timeout=2.5, max_handshake_bytes=1024)
    assert options.proxy == ProxyPolicy("v2", Networks.parse("10.0.0.0/8"))
    assert options.access_log == "off"
    assert options.udp_max_amplification == 2.5
    assert options.dry_run
    assert options.policy_for(1024) == replace(
        DEFAULT_POLICY, max_connections=7, deny=Networks.parse("192.0.2.0/24"), penalties=None
    )


def test_everything_can_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("SOCKSERVER_LISTEN", "tcp:1 tcp:2")
    monkeypatch.setenv("SOCKSERVER_BACKLOG", "7")
    monkeypatch.setenv("SOCKSERVER_HANDSHAKE", "welcome:a b")
    monkeypatch.setenv("SOCKSERVER_SESSION", "a=echo b=discard")

    options = parse()

    assert options.listen == ("tcp:1", "tcp:2")
    assert options.backlog == 7
    assert options.handshake.token == b"a b"
    assert options.session is not None
    assert list(options.session) == ["a", "b"]


def test_the_environment_may_name_the_file_and_the_command_line_another(write, monkeypatch):
    monkeypatch.setenv("SOCKSERVER_CONFIG", write("backlog = 7"))
    assert parse().backlog == 7

    monkeypatch.setenv("SOCKSERVER_CONFIG", "none.toml")
    assert parse("--config", "door.toml").backlog == 7
    assert complaint() == "cannot read none.toml: No such file or directory"


def test_an_empty_list_of_sessions_is_none(write):
    assert parse("--config", write("session = []")).session is None


# What to type to try it.


@pytest.mark.parametrize(
    ("text", "try_it"),
    [
        ("welcome", "--send 1"),
        ("welcome:2", "--handshake welcome:2"),
        ("welcome:token=open up", "--handshake 'welcome:token=open up'"),
        (f"{HERE}:Door", f"--handshake {HERE}:Door"),
        ("passphrase:" + CANARY, "--handshake passphrase:..."),
    ],
)
def test_it_says_how_to_try_the_handshake(text, try_it):
    assert parse("--handshake", text).try_it == try_it


# Secrets.


def test_a_secret_on_the_command_line_is_warned_of():
    assert parse("--handshake", f"passphrase:{CANARY}").warnings == [
        WARNING.format("handshake passphrase")
    ]
    assert parse("--session", f"{HERE}:Locked:{CANARY}").warnings == [
        WARNING.format(f"session {HERE}:Locked")
    ]


def test_a_secret_that_stands_elsewhere_is_in_order(write, tmp_path, monkeypatch):
    (tmp_path / "word").write_text(CANARY)
    monkeypatch.setenv("WORD", CANARY)
    in_file = write(f'handshake = "passphrase:{CANARY}"')

    for arguments in (
        ["--handshake", "passphrase:file=word"],
        ["--handshake", "passphrase:env=WORD"],
        ["--config", in_file],
    ):
        options = parse(*arguments)
        assert type(options.handshake) is Passphrase
        assert options.warnings == []
    monkeypatch.setenv("SOCKSERVER_HANDSHAKE", f"passphrase:{CANARY}")
    assert parse().warnings == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--handshake", f"passphrse:{CANARY}"],
        ["--handshake", f"passphrase:{CANARY}:{CANARY}:{CANARY}:{CANARY}"],
        ["--handshake", f"passphrase:word={CANARY}:word={CANARY}"],
        ["--handshake", f"passphrase:{CANARY}", "--idle-timeout", "soon"],
        ["--handshake", f"passphrase:{CANARY}\n"],
        ["--handshake", "passphrase:open", CANARY],
        ["--session", f"{HERE}:Locked:open", CANARY],
        ["--session", f"a={HERE}:Lockd:{CANARY}"],
        ["--session", f"{HERE}:Locked:wrong:{CANARY}"],
        [f"passphrase:{CANARY}"],
    ],
)
def test_a_secret_is_never_in_a_message_nor_in_its_traceback(arguments):
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)

    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_secret_in_the_environment_is_never_in_a_message(monkeypatch):
    monkeypatch.setenv("SOCKSERVER_HANDSHAKE", f"passphrse:{CANARY}")

    assert CANARY not in complaint()


# Mistakes.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nope"], "option --nope not recognized; see --help"),
        (["--two\nlines"], r"option --two\nlines not recognized; see --help"),
        (["--backlog"], "option --backlog requires argument; see --help"),
        (["--version=1"], "option --version must not have an argument; see --help"),
        (["8001"], "'8001' is no option; see --help"),
        (["tcp:8001"], "'tcp' is no option; see --help"),
        (
            ["--handshake", "welcome:go", "away"],
            "something is left over; quote an argument with blanks; see --help",
        ),
        (["--backlog", "0"], "--backlog: '0' is not a whole number from 1 to 2147483647"),
        (
            ["--idle-timeout", "5 minutes"],
            "--idle-timeout: '5 minutes' is not a time above zero; "
            "write it like 5, 500ms, 10s or 2m",
        ),
        (
            ["--max-handshake-bytes", "1kb"],
            "--max-handshake-bytes: '1kb' is not a size above zero; write it like 4096, 16k or 1m",
        ),
        (["--config", ""], "--config is empty; name a TOML file"),
        (
            ["--session-lifetime", "ever"],
            "--session-lifetime: 'ever' is not a time above zero; "
            "write it like 5, 500ms, 10s or 2m",
        ),
        (["--proxy-protocol", "v3"], "--proxy-protocol: 'v3' is not off, v1, v2 or auto"),
        (
            ["--proxy-protocol", "v2"],
            "--proxy-protocol is v2, but nobody's header is believed; name the proxies with "
            "--proxy-allow-from, like 10.0.0.0/8,192.0.2.1",
        ),
        (
            ["--proxy-protocol", "auto", "--proxy-allow-from", "none"],
            "--proxy-protocol is auto, but nobody's header is believed; name the proxies with "
            "--proxy-allow-from, like 10.0.0.0/8,192.0.2.1",
        ),
        (
            ["--proxy-protocol", "v1", "--proxy-allow-from", "10.0.0.0/8,haproxy"],
            "--proxy-allow-from: 'haproxy' is not a network; "
            "write it like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32",
        ),
        (["--access-log", ""], "--access-log: a name is missing; name a file, or write - or off"),
        (
            ["--listen", ""],
            "--listen is empty; name an endpoint like tcp:8001:interface=127.0.0.1",
        ),
        (["--handshake", ""], "expected a handshake as NAME:ARG:key=value, got ''..."),
        (["--handshake", f"{HERE}:OneSided"], f"handshake {HERE}:OneSided has no server's side"),
        (
            ["--handshake", f"{HERE}:Breaks"],
            f"handshake '{HERE}:Breaks' cannot be made: RuntimeError: the database is gone",
        ),
        (
            ["--session", "echoes"],
            "unknown session 'echoes': the known ones are echo, discard, forward, "
            "or give module:attribute; did you mean 'echo'?",
        ),
        (
            ["--session", "echo", "--session", "discard"],
            "a second session without a name; write --session NAME=SPEC",
        ),
        (
            ["--session", "a=echo", "--session", "a=discard"],
            "a second session a; write --session NAME=SPEC",
        ),
        (["--session", f"{HERE}:Locked:wrong"], "that key fits nothing"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    assert complaint(*arguments) == said


def test_a_mistake_is_told_with_the_place_where_it_stands(write, monkeypatch):
    file = write('close-timeout = "never"')
    assert complaint("--config", file).startswith("close-timeout in door.toml: 'never' is not")

    monkeypatch.setenv("SOCKSERVER_CLOSE_TIMEOUT", "never")
    assert complaint("--config", file).startswith("SOCKSERVER_CLOSE_TIMEOUT: 'never' is not")

    assert complaint("--close-timeout", "never").startswith("--close-timeout: 'never' is not")


def test_a_file_that_listens_nowhere_is_a_mistake(write):
    file = write("listen = []")

    assert complaint("--config", file) == (
        "listen in door.toml is empty; name an endpoint like tcp:8001:interface=127.0.0.1"
    )


# What is only asked.


def answer(capsys, option):
    with pytest.raises(SystemExit) as caught:
        parse(option)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_handshakes_are_listed_with_their_arguments(capsys):
    assert answer(capsys, "--help-handshakes").splitlines()[:4] == [
        "welcome[:TOKEN][:welcome=TEXT][:goodbye=TEXT]",
        "    Welcome whoever sends the token, and ask all others out.",
        "passphrase[:WORD][:file=PATH][:env=TEXT]",
        "    Accept whoever knows the word.",
    ]


def test_the_sessions_are_listed(capsys):
    assert answer(capsys, "--help-sessions").splitlines()[:2] == [
        "echo",
        "    Send back whatever arrives, at the pace at which the peer reads it.",
    ]


def test_the_version_tells_what_it_runs_on(capsys):
    from twisted.internet import reactor

    import sockproto
    import twisted

    said = answer(capsys, "--version")

    assert said == (
        f"sockproto {sockproto.__version__}, Twisted {twisted.__version__}, "
        f"Python {platform.python_version()}, {type(reactor).__name__}\n"
    )
