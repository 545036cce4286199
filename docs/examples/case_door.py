from door import Passphrase
from twisted.trial.unittest import SynchronousTestCase, TestCase

from sockproto import Accept
from sockproto.testing import converse, serve


class WithoutANetwork(SynchronousTestCase):
    def test_the_word_opens_the_door(self):
        self.assertEqual(converse(Passphrase(b"sesame").serve, b"sesame\n"), Accept(b"OK\n"))


class OnARealSocket(TestCase):
    async def test_the_word_opens_the_door(self):
        server = await serve(Passphrase(b"sesame"))
        self.addCleanup(server.stop)

        self.assertEqual(await server.say(b"sesame\n"), b"OK\n")


# ruff: noqa: PT009 - trial has assertions of its own
