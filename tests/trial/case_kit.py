"""
The test kit under trial.

Not collected by pytest: an asynchronous ``TestCase`` and pytest-twisted each want the reactor for
themselves. Run it with ``python -m twisted.trial tests/trial/case_kit.py``.
"""

from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sockproto import Accept, Reject, Rejected, connect
from sockproto.handshakes.passphrase import Passphrase
from sockproto.handshakes.welcome import Welcome
from sockproto.sessions.echo import Echo
from sockproto.testing import converse, serve
from sockproto.testing.trial import HandshakeTestMixin


class WithoutANetwork(SynchronousTestCase):
    def test_a_word_is_the_same_word_however_it_is_cut(self):
        side = Passphrase(b"sesame").serve
        self.assertEqual(converse(side, b"sesame\n"), Accept(b"OK\n"))
        self.assertEqual(converse(side, b"simsim\n"), Reject(b"NO\n", reason="wrong word"))


class OnARealSocket(TestCase):
    async def test_the_lesson_is_served(self):
        server = await serve(Welcome())
        self.addCleanup(server.stop)

        self.assertEqual(await server.say(b"1"), b"welcome to server!")
        self.assertEqual(await server.say(b"2"), b"please go out!")
        self.assertEqual([event.reason for event in server.verdicts], ["accepted", "rejected"])

    async def test_a_client_is_accepted_or_rejected(self):
        server = await serve(Passphrase(b"sesame"))
        self.addCleanup(server.stop)

        self.assertEqual(await connect(server.endpoint, Passphrase(b"sesame")), Accept())
        with self.assertRaises(Rejected):
            await connect(server.endpoint, Passphrase(b"simsim"))

    async def test_what_follows_the_word_reaches_the_session(self):
        server = await serve(Passphrase(b"sesame"), Factory.forProtocol(Echo))
        self.addCleanup(server.stop)

        self.assertEqual(await server.say(b"sesame\nhello", finish=True), b"OK\nhello")


class WithTheMixin(HandshakeTestMixin, TestCase):
    async def test_a_server_is_started_and_stopped(self):
        server = await self.serve(Passphrase(b"sesame"))

        self.assertEqual(await self.connect(server, Passphrase(b"sesame")), Accept())

    def test_a_clock_is_there(self):
        clock = self.clock()
        clock.callLater(1, lambda: None)
        clock.advance(1)
