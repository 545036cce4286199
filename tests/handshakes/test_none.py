from sockproto import Accept, Exchange
from sockproto.handshakes.none import NoHandshake
from sockproto.testing import Rehearsal, Story, converse, play, rehearse


def test_whoever_comes_is_accepted_before_the_first_byte():
    exchange = Exchange(NoHandshake().serve)

    assert exchange.outcome == Accept()
    assert exchange.data_to_send() == b""


def test_every_byte_is_the_sessions():
    assert converse(NoHandshake().serve, b"hello") == Accept()
    assert play(NoHandshake().serve, [b"hel", b"lo"]) == Story(Accept(), unread=b"hello")
    assert play(NoHandshake().connect, [b"hel", b"lo"]) == Story(Accept(), unread=b"hello")


def test_whoever_says_nothing_is_accepted_too():
    assert converse(NoHandshake().serve, b"") == Accept()


def test_both_sides_agree_without_a_word():
    assert rehearse(NoHandshake()) == Rehearsal(server=Accept(), client=Accept())
