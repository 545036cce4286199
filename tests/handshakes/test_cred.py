import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from docs.pages import DOCS, rows_of
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.strcred import ICheckerFactory
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.plugin import IPlugin
from zope.interface import implementer

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    Reject,
)
from sockproto.core.facts import PeerFacts, TlsFacts
from sockproto.handshakes.cred import MAX_PASSWORD, MAX_USER, Cred
from sockproto.plugins import handshake_from_string
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/cred.json").read_text())
PAGE = DOCS / "reference/handshakes/cred.rst"

TLS = PeerFacts(tls=TlsFacts())
ANN = b"ann\nsesame\n"
WELCOME = Accept(b"OK\n", identity="ann")
WRONG = Reject(b"NO\n", reason="wrong user or password")


@implementer(ICheckerFactory, IPlugin)
class Asked:
    """A plug-in of somebody's, whose checker answers what a test wants."""

    authType = "asked"
    authHelp = "Asks a test."
    argStringFormat = "Whatever is wanted."
    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, answer):
        self.answer, self.credentials = answer, []

    def generateChecker(self, argument):
        if argument == "s3cret":
            raise RuntimeError(argument)
        return self

    def requestAvatarId(self, credentials):
        self.credentials.append(credentials)
        return self.answer(credentials) if callable(self.answer) else self.answer


@pytest.fixture
def asked(monkeypatch):
    """Install a checker of that name."""

    def install(answer):
        plugin = Asked(answer)
        # Twisted would look through every module of twisted.plugins on the disk.
        monkeypatch.setattr("twisted.cred.strcred.findCheckerFactories", lambda: [plugin])
        return plugin

    return install


def raising(error):
    def answer(credentials):
        raise error

    return answer


class ThreadsByHand:
    """A reactor whose threads run when a test says so, and whose time a test moves."""

    def __init__(self):
        self.clock = Clock()
        self.started = []

    seconds = property(lambda self: self.clock.seconds)
    callLater = property(lambda self: self.clock.callLater)

    def getThreadPool(self):
        return self

    def callInThreadWithCallback(self, done, work, *args, **kwargs):
        self.started.append((done, lambda: work(*args, **kwargs)))

    def callFromThread(self, work, *args):
        work(*args)

    def run(self):
        """Let the oldest thread come to its end."""
        from twisted.python.failure import Failure

        done, work = self.started.pop(0)
        try:
            result = work()
        except Exception:
            done(False, Failure())
        else:
            done(True, result)


def begin(handshake, said=ANN):
    """An exchange that has heard this, and is brought what it waits for as a server would."""
    exchange = Exchange(handshake.serve, TLS)
    exchange.receive_data(said)
    follow(exchange)
    return exchange


def follow(exchange):
    if exchange.deferred is not None:
        exchange.deferred.addBoth(lambda _: (exchange.receive_result(), follow(exchange)))


# The vectors


@pytest.mark.parametrize("vector", VECTORS["conversations"], ids=lambda each: each["case"])
def test_the_bytes_are_those_of_the_vectors(vector):
    answer = bytes.fromhex(vector["server"])

    outcome = converse(Cred(VECTORS["auth"]).serve, bytes.fromhex(vector["client"]), facts=TLS)

    assert outcome == (
        Accept(answer, identity=vector["identity"])
        if vector["verdict"] == "accepted"
        else Reject(answer, reason=vector["log"])
    )


def test_the_page_has_the_bytes_of_the_vectors():
    assert rows_of(PAGE, 1) == [
        [each["case"], each["client"], each["server"], each["verdict"]]
        for each in VECTORS["conversations"]
    ]


# The server's side


def test_what_follows_the_password_is_left_for_the_session():
    story = play(Cred(VECTORS["auth"]).serve, [ANN + b"hello"], facts=TLS)

    assert story == Story(WELCOME, sent=b"OK\n", unread=b"hello")


def test_without_tls_nothing_is_asked():
    assert play(Cred(VECTORS["auth"]).serve, []) == Story(
        Reject(b"NO\n", reason="no TLS: listen on tls:..., or set insecure=yes"), sent=b"NO\n"
    )


def test_whoever_knows_better_does_without():
    assert converse(Cred(VECTORS["auth"], insecure=True).serve, ANN) == WELCOME


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (b"x" * (MAX_USER + 1), MAX_USER),
        (b"ann\n" + b"x" * (MAX_PASSWORD + 1), MAX_PASSWORD),
    ],
)
def test_what_is_too_long_is_over_the_limit(said, limit):
    with pytest.raises(LimitExceeded) as caught:
        converse(Cred(VECTORS["auth"]).serve, said, facts=TLS)

    assert str(caught.value) == f"peer sent more than {limit} bytes, the limit set by max_bytes"


@pytest.mark.parametrize("said", [b"", b"ann", b"ann\n", b"ann\nsesame"])
def test_a_client_that_leaves_in_the_middle_is_a_disconnect(said):
    with pytest.raises(PeerDisconnected):
        converse(Cred(VECTORS["auth"]).serve, said, facts=TLS)


def test_a_user_who_is_taken_out_of_the_file_is_a_stranger(tmp_path, monkeypatch):
    file = tmp_path / "users"
    file.write_text("ann:sesame\nbob:simsim\n")
    monkeypatch.chdir(tmp_path)
    serve = Cred("file:users").serve
    # As a daemon does.
    monkeypatch.chdir("/")
    assert converse(serve, ANN, facts=TLS) == WELCOME
    assert converse(serve, b"ann\nsimsim\n", facts=TLS) == WRONG

    file.write_text("bob:simsim\n")

    assert converse(serve, ANN, facts=TLS) == WRONG


def test_the_first_line_of_a_user_counts_and_what_is_no_line_does_not(tmp_path):
    file = tmp_path / "users"
    file.write_text("nobody\n\nann:sesame:more\r\nann:simsim\n")
    serve = Cred(f"file:{file}").serve

    assert converse(serve, ANN, facts=TLS) == WELCOME
    assert converse(serve, b"ann\nsimsim\n", facts=TLS) == WRONG
    assert converse(serve, b"nobody\nsesame\n", facts=TLS) == WRONG


def test_a_file_is_read_when_it_changes_and_not_at_each_login(tmp_path, monkeypatch):
    file = tmp_path / "users"
    file.write_text("ann:sesame\n")
    serve = Cred(f"file:{file}").serve
    read = []
    monkeypatch.setattr("builtins.open", lambda *given: read.append(given))
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path))

    for said in (ANN, b"ann\nsimsim\n", b"eve\nsesame\n"):
        play(serve, [said], facts=TLS)

    assert read == []


def test_a_user_without_a_password_is_nobody(tmp_path, asked):
    file = tmp_path / "users"
    file.write_text("ann:\n")
    outcome = Reject(b"NO\n", reason="no password")

    assert converse(Cred(f"file:{file}").serve, b"ann\n\n", facts=TLS) == outcome

    # As a directory does, which takes that for a guest.
    plugin = asked(lambda credentials: credentials.username)
    assert converse(Cred("asked").serve, b"ann\n\n", facts=TLS) == outcome
    assert plugin.credentials == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"ann", WELCOME),
        ("ann", WELCOME),
        (succeed(b"ann"), WELCOME),
        (ANONYMOUS, Accept(b"OK\n")),
        (b"\xff", Accept(b"OK\n", identity="\\xff")),
        (raising(UnauthorizedLogin("s3cret")), WRONG),
        (lambda _: fail(UnauthorizedLogin("s3cret")), WRONG),
        (raising(TypeError("s3cret")), Reject(b"NO\n", reason="the checker broke: TypeError")),
        (
            lambda _: fail(OSError("s3cret")),
            Reject(b"NO\n", reason="the checker broke: OSError"),
        ),
        (
            None,
            Reject(b"NO\n", reason="the checker answered with a NoneType, expected an avatar's id"),
        ),
    ],
)
def test_whatever_a_checker_answers_is_a_verdict(asked, answer, outcome):
    asked(answer)

    assert play(Cred("asked").serve, [ANN], facts=TLS).outcome == outcome


def test_a_checker_may_compare_with_text_or_bytes(asked):
    plugin = asked(b"ann")
    play(Cred("asked:a:b").serve, [ANN], facts=TLS)

    [credentials] = plugin.credentials
    assert (credentials.username, credentials.password) == (b"ann", b"sesame")
    assert credentials.checkPassword(b"sesame")
    assert credentials.checkPassword("sesame")
    assert not credentials.checkPassword(b"simsim")


# Slow checkers


def test_a_deferred_is_awaited_and_only_so_many_may_wait(asked):
    waiting = [Deferred(), Deferred(), succeed(b"late")]
    plugin = asked(lambda credentials: waiting[len(plugin.credentials) - 1])
    handshake = Cred("asked", queue=2)

    first, second, third = (begin(handshake) for _ in range(3))

    assert (first.outcome, second.outcome) == (None, None)
    assert third.outcome == Reject(
        b"NO\n", reason="2 logins are being checked already; raise threads= or queue="
    )
    waiting[0].callback(b"ann")
    assert first.outcome == WELCOME
    assert begin(handshake).outcome == Accept(b"OK\n", identity="late")
    second.throw(HandshakeTimeout(10, "handshake_timeout"))
    assert waiting[1].called


def test_threads_take_one_after_the_other_and_only_so_many_may_wait(asked):
    asked(lambda credentials: credentials.username)
    reactor = ThreadsByHand()
    handshake = Cred("asked", threads=2, queue=1, reactor=reactor)

    exchanges = [begin(handshake, b"%d\nx\n" % number) for number in range(4)]

    assert len(reactor.started) == 2
    assert [each.outcome for each in exchanges[:3]] == [None] * 3
    assert type(exchanges[3].outcome) is Reject
    reactor.run()
    assert exchanges[0].outcome == Accept(b"OK\n", identity="0")
    assert len(reactor.started) == 2
    reactor.run()
    reactor.run()
    assert exchanges[2].outcome == Accept(b"OK\n", identity="2")


def test_a_full_queue_is_refused_as_everything_is(asked):
    asked(b"ann")
    reactor = ThreadsByHand()
    handshake = Cred("asked", threads=1, queue=1, reactor=reactor)
    begin(handshake)
    begin(handshake)

    late = begin(handshake)

    assert late.outcome == Reject(
        b"NO\n", reason="2 logins are being checked already; raise threads= or queue="
    )
    reactor.run()
    reactor.run()


def test_a_refusal_that_a_thread_has_found_comes_at_a_full_half_second(asked):
    asked(raising(UnauthorizedLogin()))
    reactor = ThreadsByHand()
    exchange = begin(Cred("asked", threads=1, reactor=reactor))
    reactor.clock.advance(0.1)

    reactor.run()

    reactor.clock.advance(0.3)
    assert exchange.outcome is None
    reactor.clock.advance(0.1)
    assert exchange.outcome == WRONG


def test_a_thread_may_answer_with_a_deferred(asked):
    waiting = Deferred()
    asked(lambda credentials: waiting)
    reactor = ThreadsByHand()
    exchange = begin(Cred("asked", threads=1, reactor=reactor))

    reactor.run()
    assert exchange.outcome is None
    waiting.callback(b"ann")

    assert exchange.outcome == WELCOME


def test_whoever_leaves_while_waiting_leaves_the_queue(asked):
    plugin = asked(b"ann")
    reactor = ThreadsByHand()
    handshake = Cred("asked", threads=1, queue=1, reactor=reactor)
    begin(handshake)
    gone = begin(handshake)

    gone.throw(PeerDisconnected(11, "a verdict"))
    after = begin(handshake)
    reactor.run()
    reactor.run()

    assert after.outcome == WELCOME
    assert reactor.started == []
    assert len(plugin.credentials) == 2


def test_whoever_leaves_during_the_check_does_not_free_the_thread(asked):
    asked(b"ann")
    reactor = ThreadsByHand()
    handshake = Cred("asked", threads=1, queue=1, reactor=reactor)
    gone = begin(handshake)

    gone.throw(PeerDisconnected(11, "a verdict"))
    waiting = begin(handshake)

    assert len(reactor.started) == 1
    reactor.run()
    assert len(reactor.started) == 1
    reactor.run()
    assert waiting.outcome == WELCOME


def test_the_threads_are_those_of_the_reactor_unless_told_otherwise(asked, monkeypatch):
    asked(b"ann")
    reactor = ThreadsByHand()
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", reactor)
    monkeypatch.setattr("twisted.internet.reactor", reactor, raising=False)

    exchange = begin(Cred("asked", threads=1))
    reactor.run()

    assert exchange.outcome == WELCOME


def test_unix_passwords_are_checked_in_threads(monkeypatch):
    crypt = ModuleType("crypt")
    crypt.crypt = lambda word, salt: f"hash of {word}"
    crypt.__spec__ = SimpleNamespace(name="crypt")
    users = {"ann": SimpleNamespace(pw_passwd="hash of sesame")}
    monkeypatch.setitem(sys.modules, "crypt", crypt)
    monkeypatch.setitem(sys.modules, "pwd", SimpleNamespace(getpwnam=users.__getitem__))
    reactor = ThreadsByHand()

    exchange = begin(Cred("unix", reactor=reactor))
    reactor.run()

    assert exchange.outcome == WELCOME


def test_unix_passwords_need_what_newer_pythons_lack(monkeypatch):
    monkeypatch.setattr("sockproto.handshakes.cred.find_spec", lambda name: None)

    with pytest.raises(ConfigurationError) as refused:
        Cred("unix")

    assert str(refused.value) == (
        "cred cannot check unix passwords: Python has no crypt module since 3.13; use a file"
    )


# The client's side


def ann(**more):
    return Cred(user="ann", password=b"sesame", **more)


def test_the_client_says_who_it_is_and_its_password():
    assert Exchange(ann().connect, TLS).data_to_send() == ANN


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"OK\n", Accept()),
        (
            b"NO\n",
            Reject(reason="wrong user or password, or the server is too busy to look"),
        ),
        (b"SSH-2.0-x\n", Reject(reason="that is not a cred server")),
    ],
)
def test_the_client_hears_the_verdict(answer, outcome):
    assert converse(ann().connect, answer, facts=TLS) == outcome


def test_the_client_says_nothing_without_tls():
    assert play(ann().connect, []) == Story(
        Reject(reason="a password is not sent without TLS: connect to tls:..., or set insecure=yes")
    )


def test_both_sides_agree():
    handshake = Cred(VECTORS["auth"], user="ann", password=b"sesame", insecure=True)

    assert rehearse(handshake) == Rehearsal(WELCOME, Accept(), server_sent=b"OK\n", client_sent=ANN)


# What it is made of


def test_a_side_that_cannot_be_is_not_there():
    assert Cred(VECTORS["auth"]).connect is None
    assert ann().serve is None


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        (
            {},
            "cred needs a checker to serve, as in cred:file:PATH, or user= and a password to "
            "connect",
        ),
        ({"password": b"x"}, "cred has a password, and nobody to whom it belongs: user="),
        ({"user": "ann"}, "cred needs one of password=TEXT, password_file=PATH or env=NAME"),
        (
            {"user": "ann\n", "password": b"x"},
            "cred needs a user of 1 to 256 bytes without a line feed, got 4 bytes",
        ),
        (
            {"user": "", "password": b"x"},
            "cred needs a user of 1 to 256 bytes without a line feed, got 0 bytes",
        ),
        (
            {"user": "ann", "password": b"x" * 1025},
            "cred needs a password of 1 to 1024 bytes without a line feed, got 1025 bytes",
        ),
        ({"auth": "file:/nowhere"}, "cred cannot read /nowhere: no such file or directory"),
        ({"auth": "file"}, "cred cannot read its file: no such file or directory"),
        (
            {"auth": "memory:s3cret"},
            "cred cannot make the checker 'memory': InvalidAuthArgumentString; it takes: "
            "A colon-separated list (name:password:...)",
        ),
        (
            {"auth": "s3cret-file:PATH"},
            "cred knows no checker 's3cret-file' that takes a user and a password; there are "
            "file, memory, unix",
        ),
        (
            {"auth": "anonymous"},
            "cred knows no checker 'anonymous' that takes a user and a password; there are "
            "file, memory, unix",
        ),
        ({"auth": "memory", "threads": 9}, "cred takes 0 to 8 threads, got 9"),
        ({"auth": "memory", "queue": 0}, "cred needs a queue of 1 or more, got 0"),
    ],
)
def test_a_mistake_is_one_sentence(given, trouble):
    with pytest.raises(ConfigurationError) as refused:
        Cred(**given)

    assert str(refused.value) == trouble


def test_a_checker_that_cannot_be_made_does_not_tell_its_argument(asked):
    asked(b"ann")

    with pytest.raises(ConfigurationError) as refused:
        Cred("asked:s3cret")

    assert str(refused.value) == (
        "cred cannot make the checker 'asked': RuntimeError; it takes: Whatever is wanted."
    )


def test_it_is_found_by_its_name(tmp_path):
    file = tmp_path / "users"
    file.write_text("ann:sesame\n")

    for text in (f"cred:file:{file}", "cred:queue=8:memory:ann:sesame"):
        assert converse(handshake_from_string(text).serve, ANN, facts=TLS) == WELCOME


def test_nothing_shows_a_password():
    handshake = Cred(VECTORS["auth"], user="ann", password=b"sesame")
    serving, connecting = Exchange(handshake.serve, TLS), Exchange(handshake.connect, TLS)
    serving.receive_data(b"ann\nsesa")

    assert "sesa" not in f"{handshake!r} {serving!r} {connecting!r} {serving.waiting_on}"


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "accounts")

    with pytest.raises(ConfigurationError) as caught:
        Cred(f"file:{tmp_path / 'accounts'}")

    assert str(caught.value) == f"{tmp_path / 'accounts'} is no regular file"
