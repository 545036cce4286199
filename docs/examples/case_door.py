from door import Passphrase
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sockproto import Accept
from sockproto.testing import converse
from sockproto.testing.trial import HandshakeTestMixin


class WithoutANetwork(SynchronousTestCase):
    def test_the_word_opens_the_door(self):
        self.assertEqual(converse(Passphrase(b"sesame").serve, b"sesame\n"), Accept(b"OK\n"))


class OnARealSocket(HandshakeTestMixin, TestCase):
    async def test_the_word_opens_the_door(self):
        server = await self.serve(Passphrase(b"sesame"))

        self.assertEqual(await self.connect(server, Passphrase(b"sesame")), Accept())


# ruff: noqa: PT009 - trial has assertions of its own
