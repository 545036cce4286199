import pytest
from twisted.internet.defer import Deferred, succeed

from sockproto import (
    Accept,
    Address,
    HandshakeFailed,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    Reject,
    TlsFacts,
)
from sockproto.handshakes.passphrase import Passphrase
from sockproto.testing import Rehearsal, rehearse


class Between:
    """A handshake made of two functions."""

    def __init__(self, serve, connect):
        self.serve, self.connect = serve, connect


async def nods(peer):
    return Accept()


async def listens(peer):
    return Accept(result=await peer.receive_line(16))


async def talks_then_listens(peer):
    peer.send(b"well\n")
    return Accept(result=await peer.receive_line(16))


def test_both_sides_run_until_both_are_over():
    assert rehearse(Passphrase(b"sesame")) == Rehearsal(
        server=Accept(b"OK\n"), client=Accept(), server_sent=b"OK\n", client_sent=b"sesame\n"
    )


def test_either_side_may_speak_first():
    async def echoes(peer):
        return Accept(await peer.receive_line(16) + b"\n")

    expected = {"sent": b"well\n", "outcome": Accept(result=b"well")}

    there = rehearse(Between(talks_then_listens, echoes))
    back = rehearse(Between(echoes, talks_then_listens))

    assert (there.server_sent, there.server) == (expected["sent"], expected["outcome"])
    assert (back.client_sent, back.client) == (expected["sent"], expected["outcome"])


def test_both_sides_may_speak_at_once():
    assert rehearse(Between(talks_then_listens, talks_then_listens)) == Rehearsal(
        server=Accept(result=b"well"),
        client=Accept(result=b"well"),
        server_sent=b"well\n",
        client_sent=b"well\n",
    )


def test_a_conversation_may_go_back_and_forth():
    async def asks(peer):
        answers = []
        for question in (b"1+1\n", b"2+2\n"):
            peer.send(question)
            answers.append(await peer.receive_line(16))
        return Accept(b"bye\n", result=answers)

    async def answers(peer):
        while (question := await peer.receive_line(16)) != b"bye":
            peer.send(b"%d\n" % (2 * int(question[:1])))
        return Accept()

    assert rehearse(Between(asks, answers)) == Rehearsal(
        server=Accept(b"bye\n", result=[b"2", b"4"]),
        client=Accept(),
        server_sent=b"1+1\n2+2\nbye\n",
        client_sent=b"2\n4\n",
    )


def test_a_goodbye_is_heard_before_the_end():
    async def leaves(peer):
        return Reject(b"please go out!", reason="not today")

    async def hears(peer):
        return Reject(reason=(await peer.receive_to_end(64)).decode())

    assert rehearse(Between(leaves, hears)) == Rehearsal(
        server=Reject(b"please go out!", reason="not today"),
        client=Reject(reason="please go out!"),
        server_sent=b"please go out!",
    )


def test_a_side_whose_other_side_is_over_does_not_wait_for_ever():
    rehearsal = rehearse(Between(nods, listens))

    assert rehearsal.server == Accept()
    assert type(rehearsal.client) is PeerDisconnected
    assert str(rehearsal.client) == "peer disconnected after 0 bytes, expected a line"


def test_a_plug_in_that_breaks_is_an_outcome_and_the_other_side_hears_the_end():
    async def breaks(peer):
        peer.send(b"welcome, ")
        raise KeyError("ada")

    rehearsal = rehearse(Between(breaks, listens))

    assert type(rehearsal.server) is HandshakeFailed
    assert "raised KeyError: 'ada'" in str(rehearsal.server)
    assert rehearsal.server_sent == b""
    assert type(rehearsal.client) is PeerDisconnected


def test_what_comes_after_a_verdict_is_left_for_the_session():
    async def pipelines(peer):
        return Accept(b"hello\nand then some")

    rehearsal = rehearse(Between(listens, pipelines))

    assert rehearsal == Rehearsal(
        server=Accept(result=b"hello"),
        client=Accept(b"hello\nand then some"),
        client_sent=b"hello\nand then some",
        server_unread=b"and then some",
    )
    assert rehearse(Between(pipelines, listens)).client_unread == b"and then some"


def test_facts_reach_the_side_that_they_are_for():
    async def looks(peer):
        return Accept(result=(peer.address, peer.sessions))

    here, there = Address("inet", "192.0.2.1", 80), Address("inet", "192.0.2.2", 50000)
    rehearsal = rehearse(
        Between(looks, looks),
        server_facts=PeerFacts(address=there, sessions=("chat",)),
        client_facts=PeerFacts(address=here),
    )

    assert rehearsal == Rehearsal(Accept(result=(there, ("chat",))), Accept(result=(here, ())))


def test_two_sides_that_never_stop_talking_are_stopped_by_the_budget():
    async def chatters(peer):
        while True:
            peer.send(b"and ")
            await peer.receive_exactly(4)

    rehearsal = rehearse(Between(chatters, chatters), max_bytes=100)

    assert {type(rehearsal.server), type(rehearsal.client)} == {LimitExceeded, PeerDisconnected}


def test_lookups_that_fire_at_once_are_no_obstacle():
    async def looks_up(peer):
        return Accept(b"hello\n", identity=await succeed("ada"))

    assert rehearse(Between(looks_up, listens)) == Rehearsal(
        server=Accept(b"hello\n", identity="ada"),
        client=Accept(result=b"hello"),
        server_sent=b"hello\n",
    )


def test_a_lookup_may_fire_when_the_other_side_speaks():
    lookup = Deferred()

    async def looks_up(peer):
        return Accept(await lookup)

    async def fires(peer):
        lookup.callback(b"hello\n")
        return Accept(result=await peer.receive_line(16))

    assert rehearse(Between(looks_up, fires)) == Rehearsal(
        server=Accept(b"hello\n"), client=Accept(result=b"hello"), server_sent=b"hello\n"
    )


def test_two_sides_that_wait_for_each_other_are_told_apart():
    line = listens.__code__.co_firstlineno + 1
    other = talks_then_listens.__code__.co_firstlineno + 2

    async def waits(peer):
        return Accept(result=await peer.receive_exactly(64))

    with pytest.raises(AssertionError) as caught:
        rehearse(Between(listens, listens))
    assert str(caught.value) == (
        "the rehearsal is stuck: nothing is on its way\n"
        "\n"
        "  server: <Exchange of listens waiting on receive_line(max_bytes=16) "
        f"at test_rehearsal.py:{line}>, has said nothing\n"
        "  client: <Exchange of listens waiting on receive_line(max_bytes=16) "
        f"at test_rehearsal.py:{line}>, has said nothing"
    )

    with pytest.raises(AssertionError) as caught:
        rehearse(Between(waits, talks_then_listens))
    assert (
        "  client: <Exchange of talks_then_listens waiting on receive_line(max_bytes=16) "
        f"at test_rehearsal.py:{other}>, has said b'well\\n'"
    ) in str(caught.value)
    assert "waiting on receive_exactly(count=64)" in str(caught.value)


def test_a_lookup_that_never_fires_is_pointed_out():
    async def looks_up(peer):
        return Accept(identity=await Deferred())

    with pytest.raises(AssertionError) as caught:
        rehearse(Between(looks_up, nods))

    assert "waiting on Deferred at test_rehearsal.py:" in str(caught.value)
    assert "  client: <Exchange of nods: Accept(" in str(caught.value)


async def upgrades(peer):
    peer.send(b"go ahead\n")
    await peer.receive_line(16)
    established = await peer.start_tls()
    return Accept(b"secret\n", result=(established, peer.tls, peer.address))


async def upgrades_and_reads(peer):
    peer.send(b"go ahead\n")
    await peer.receive_line(16)
    established = await peer.start_tls()
    return Accept(result=(established, await peer.receive_line(16)))


def test_both_sides_are_upgraded_in_name():
    here = Address("inet", "192.0.2.1", 1)

    rehearsal = rehearse(
        Between(upgrades, upgrades_and_reads), server_facts=PeerFacts(address=here)
    )

    assert rehearsal == Rehearsal(
        server=Accept(b"secret\n", result=(TlsFacts(), TlsFacts(), here)),
        client=Accept(result=(TlsFacts(), b"secret")),
        server_sent=b"go ahead\nsecret\n",
        client_sent=b"go ahead\n",
    )


def test_a_side_that_talks_on_in_the_clear_is_found_out():
    async def babbles(peer):
        peer.send(b"go ahead\nRSET\n")
        return Accept(result=await peer.receive_line(16))

    rehearsal = rehearse(Between(upgrades, babbles))

    assert str(rehearsal.server) == "expected nothing in the clear before TLS, got b'RSET\\n'"


def test_a_side_that_leaves_instead_of_an_upgrade_is_found_out():
    async def leaves(peer):
        return Accept(b"go ahead\n")

    rehearsal = rehearse(Between(upgrades, leaves))

    assert str(rehearsal.server) == ("peer disconnected after 9 bytes, expected the TLS handshake")
