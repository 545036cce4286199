import pytest
from twisted.internet.defer import Deferred, fail, succeed

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    HandshakeFailed,
    HandshakeTimeout,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    Reject,
    Shutdown,
    TlsFacts,
)
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.none import NoHandshake
from sockproto.handshakes.passphrase import Passphrase
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

ON_OFFER = PeerFacts(sessions=("chat", "echo"))

SESAME = Passphrase(b"sesame")
MELLON = Passphrase(b"mellon")


class Gives:
    """Gives a ready answer on either side, after a word of its own if it has one."""

    def __init__(self, outcome, word=b""):
        self.outcome, self.word = outcome, word

    async def serve(self, peer):
        await peer.expect(self.word)
        return self.outcome

    async def connect(self, peer):
        peer.send(self.word)
        return self.outcome


class Raises:
    def __init__(self, error):
        self.error = error

    async def serve(self, peer):
        raise self.error

    async def connect(self, peer):
        raise self.error


class Waits:
    """Waits for a Deferred."""

    def __init__(self, deferred):
        self.deferred = deferred

    async def serve(self, peer):
        return Accept(identity=await self.deferred)


class Upgrades:
    async def serve(self, peer):
        await peer.expect(b"TLS\n")
        peer.send(b"GO\n")
        await peer.start_tls()
        return Accept()

    async def connect(self, peer):
        peer.send(b"TLS\n")
        await peer.expect(b"GO\n")
        await peer.start_tls()
        return Accept()


class OverTls:
    """Accepts whoever speaks TLS by now."""

    async def serve(self, peer):
        return Accept(b"in\n") if peer.tls is not None else Reject(reason="no TLS")

    async def connect(self, peer):
        return Accept() if await peer.expect(b"in\n") else Reject()


# One after the other


def test_each_takes_what_it_needs_and_leaves_the_rest_to_the_next():
    side = Chain(SESAME, MELLON).serve

    assert converse(side, b"sesame\nmellon\n") == Accept(b"OK\n")
    assert play(side, [b"sesame\nmellon\nhello"]) == Story(Accept(b"OK\n"), b"OK\nOK\n", b"hello")


def test_the_reply_of_one_has_left_before_the_next_one_hears_a_word():
    exchange = Exchange(Chain(SESAME, MELLON).serve)

    exchange.receive_data(b"sesame\n")

    assert exchange.data_to_send() == b"OK\n"
    assert exchange.outcome is None
    assert exchange.waiting_on == "receive_until(delimiter=b'\\n', max_bytes=1024)"


def test_one_that_waits_for_something_else_does_not_keep_the_reply_of_the_one_before():
    directory = Deferred()
    exchange = Exchange(Chain(SESAME, Waits(directory)).serve)

    exchange.receive_data(b"sesame\n")

    assert (exchange.deferred, exchange.data_to_send()) == (directory, b"OK\n")


def test_the_first_that_rejects_is_the_last_that_is_asked():
    wrong = Reject(b"NO\n", reason="wrong word")

    assert converse(Chain(SESAME, MELLON).serve, b"simsim\nmellon\n") == wrong
    assert converse(Chain(SESAME, MELLON).serve, b"sesame\nsimsim\n") == wrong
    assert play(Chain(SESAME, MELLON).serve, [b"simsim\nmellon\n"]).unread == b"mellon\n"


def test_one_link_is_a_chain_too():
    assert converse(Chain(SESAME).serve, b"sesame\n") == Accept(b"OK\n")


def test_both_sides_agree():
    chain = Chain(SESAME, NoHandshake(), Negotiate("mail,echo"))

    assert rehearse(chain, server_facts=ON_OFFER) == Rehearsal(
        server=Accept(b"OK echo\n", session="echo"),
        client=Accept(result="echo"),
        server_sent=b"OK\nOK echo\n",
        client_sent=b"sesame\nmail echo\n",
    )


def test_both_sides_agree_where_the_second_rejects():
    chain = Chain(SESAME, Negotiate("mail"))

    rehearsal = rehearse(chain, server_facts=ON_OFFER)

    assert rehearsal.server == Reject(b"NO chat echo\n", reason="b'mail' is not on offer")
    assert rehearsal.client == Reject(reason="on offer is chat, echo")


def test_a_chain_of_chains_is_a_chain():
    nested = Chain(Chain(SESAME, MELLON), SESAME)

    assert converse(nested.serve, b"sesame\nmellon\nsesame\n") == Accept(b"OK\n")
    assert rehearse(nested).client == Accept()


# What is collected


def outcome_of(*outcomes):
    return Exchange(Chain(*map(Gives, outcomes)).serve, ON_OFFER).outcome


@pytest.mark.parametrize(
    ("identities", "joined"),
    [
        ((None, None), None),
        (("ann", None), "ann"),
        ((None, "ann"), "ann"),
        (("ann.example.org", None, "deploy"), "ann.example.org,deploy"),
        (("ann", "bob", "ann"), "ann,bob"),
        (("", None), ""),
    ],
)
def test_identities_are_collected_each_of_them_once(identities, joined):
    assert outcome_of(*(Accept(identity=each) for each in identities)).identity == joined


def test_the_last_that_names_a_session_chooses_it():
    assert outcome_of(Accept(session="chat"), Accept()).session == "chat"
    assert outcome_of(Accept(session="chat"), Accept(session="echo")).session == "echo"


def test_the_result_is_that_of_the_last_that_has_one():
    assert outcome_of(Accept(result=1), Accept()).result == 1
    assert outcome_of(Accept(result=1), Accept(result=0)).result == 0


def test_the_replies_are_sent_in_order_and_the_last_is_the_verdicts():
    story = play(Chain(Gives(Accept(b"a")), Gives(Accept()), Gives(Accept(b"b"))).serve, [])

    assert (story.outcome, story.sent) == (Accept(b"b"), b"ab")


# What they share


def test_the_budget_is_one_for_all_of_them():
    side = Chain(SESAME, MELLON).serve

    assert converse(side, b"sesame\nmellon\n", max_bytes=14) == Accept(b"OK\n")
    with pytest.raises(LimitExceeded) as caught:
        converse(side, b"sesame\nmellon\n", max_bytes=13)
    assert str(caught.value) == "peer sent more than 13 bytes, the limit set by max_handshake_bytes"


def test_a_peer_that_leaves_between_two_is_a_disconnect():
    with pytest.raises(PeerDisconnected) as caught:
        converse(Chain(SESAME, MELLON).serve, b"sesame\n")

    assert str(caught.value) == "peer disconnected after 7 bytes, expected b'\\n'"


def test_what_one_has_brought_about_the_next_one_knows():
    chain = Chain(SESAME, Upgrades(), OverTls())

    rehearsal = rehearse(chain)

    assert (rehearsal.server, rehearsal.client) == (Accept(b"in\n"), Accept())
    assert rehearsal.server_sent == b"OK\nGO\nin\n"


def test_what_was_said_before_the_upgrade_leaves_before_it():
    exchange = Exchange(Chain(Gives(Accept(b"welcome\n")), Upgrades()).serve)
    exchange.receive_data(b"TLS\n")

    assert exchange.wants_tls
    assert exchange.data_to_send() == b"welcome\nGO\n"
    exchange.tls_started(PeerFacts(tls=TlsFacts()))
    assert exchange.outcome == Accept()


@pytest.mark.parametrize(
    "error", [HandshakeTimeout(5, "idle_timeout"), Shutdown(), PeerDisconnected(7, "a line")]
)
def test_an_end_from_outside_is_the_outcome(error):
    exchange = Exchange(Chain(SESAME, MELLON).serve)
    exchange.receive_data(b"sesame\n")

    exchange.throw(error)

    assert exchange.outcome is error


# Who is to blame


def blamed(link):
    exchange = Exchange(Chain(NoHandshake(), link).serve)
    assert isinstance(exchange.outcome, HandshakeFailed)
    return exchange.outcome


def test_a_link_that_raises_is_named_and_not_the_chain():
    error = ValueError("no such page")

    failed = blamed(Raises(error))

    assert str(failed) == "Raises.serve raised ValueError('no such page')"
    assert failed.__cause__ is error


def test_a_link_whose_deferred_fails_is_named():
    assert str(blamed(Waits(fail(LookupError("gone"))))) == "Waits.serve raised LookupError('gone')"


def test_a_link_that_finds_a_result_goes_on():
    exchange = Exchange(Chain(Waits(succeed("ann")), SESAME).serve)
    exchange.receive_data(b"sesame\n")

    assert exchange.outcome == Accept(b"OK\n", identity="ann")


@pytest.mark.parametrize(("given", "told"), [(None, "None"), ("yes", "a str")])
def test_a_link_that_returns_something_else_is_named(given, told):
    assert str(blamed(Gives(given))) == f"Gives.serve returned {told}, expected Accept or Reject"


def test_a_link_that_is_no_coroutine_is_named():
    class Plain:
        def serve(self, peer):
            return Accept()

    assert "Plain.serve raised TypeError" in str(blamed(Plain()))


def test_a_link_that_blames_its_peer_is_believed():
    error = LimitExceeded(64, "max_bytes")

    assert Exchange(Chain(Raises(error)).serve).outcome is error


# What makes a chain


def test_a_chain_has_the_sides_that_all_its_links_have():
    chain = Chain(SESAME, Waits(None))

    assert callable(chain.serve)
    assert chain.connect is None


class Greets:
    """Has a client's side alone."""

    async def connect(self, peer):
        return Accept()


@pytest.mark.parametrize(
    ("links", "told"),
    [
        (
            [],
            "chain needs the handshakes that it consists of, "
            r"like chain:passphrase\:file=word:negotiate",
        ),
        ([Waits(None), Greets()], "chain has no side: none is common to Waits, Greets"),
        ([SESAME, object()], "chain has no side: none is common to Passphrase, object"),
    ],
)
def test_what_cannot_be_a_chain_is_refused(links, told):
    with pytest.raises(ConfigurationError) as caught:
        Chain(*links)

    assert str(caught.value) == told
