import pytest_twisted
from door import Passphrase
from twisted.internet.protocol import Factory

from sockproto import Accept, Ending, Reject
from sockproto.sessions.echo import Echo
from sockproto.testing import Rehearsal, Story, converse, every_cut, play, rehearse


def test_the_word_opens_the_door():
    assert converse(Passphrase(b"sesame").serve, b"sesame\n") == Accept(b"OK\n")


def test_another_word_does_not():
    outcome = converse(Passphrase(b"sesame").serve, b"simsim\n")

    assert outcome == Reject(b"NO\n", reason="wrong word")


def test_what_follows_the_word_is_left_for_the_session_however_it_is_cut():
    for chunks in every_cut(b"sesame\nhello", random_cuts=100):
        story = play(Passphrase(b"sesame").serve, chunks)

        assert story == Story(Accept(b"OK\n"), sent=b"OK\n", unread=b"hello")


def test_both_sides_agree():
    assert rehearse(Passphrase(b"sesame")) == Rehearsal(
        server=Accept(b"OK\n"),
        client=Accept(),
        server_sent=b"OK\n",
        client_sent=b"sesame\n",
    )


@pytest_twisted.ensureDeferred
async def test_on_a_real_socket_the_session_echoes(sockproto_server):
    server = await sockproto_server(Passphrase(b"sesame"), Factory.forProtocol(Echo))

    assert await server.say(b"sesame\nhello", finish=True) == b"OK\nhello"
    assert [each.reason for each in server.verdicts] == ["accepted"]
    assert [each.ending for each in server.endings] == [Ending("accepted", "session")]
