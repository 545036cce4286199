"""The mix-in, in a run of trial of somebody else's."""

from __future__ import annotations

import re
import subprocess
import sys

CASE = """
from twisted.trial.unittest import TestCase

from sockproto import Accept
from sockproto.handshakes.passphrase import Passphrase
from sockproto.testing.trial import HandshakeTestMixin


class Door(HandshakeTestMixin, TestCase):
    async def test_a_server_is_started_and_stopped(self):
        server = await self.serve(Passphrase(b"sesame"))
        self.assertEqual(await self.connect(server, Passphrase(b"sesame")), Accept())

    def test_a_timer_is_left_in_the_clock(self):
        self.clock().callLater(1, print)
"""


def test_a_server_is_stopped_and_a_timer_in_the_clock_is_told(tmp_path):
    (tmp_path / "case_door.py").write_text(CASE)

    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "case_door"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )

    words = done.stdout + done.stderr
    assert re.search(r"test_a_server_is_started_and_stopped \.\.\. +\[OK\]", words), words
    assert "FAILED (errors=1, successes=1)" in words
    assert "DelayedCall" in words
