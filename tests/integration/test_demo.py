from __future__ import annotations

import re
import sys

import pytest_twisted
from twisted.internet import reactor

from sockproto import Limits
from sockproto.commands import demo


@pytest_twisted.ensureDeferred
async def test_the_demo_tells_of_four_clients_and_leaves_nobody(monkeypatch, capsys):
    monkeypatch.setattr(demo, "PAUSE", 0.15)

    # What drips has more to say than there is time for, and comes in good time each time.
    await demo.show(reactor, Limits(idle_timeout=0.6, handshake_timeout=1.2))

    lines = [re.sub(r"^ *[\d.]+ s  ", "", each) for each in capsys.readouterr().out.splitlines()]
    assert {"right     hears b'welcome to server!\\n', and then the end"} <= set(lines)
    assert {"wrong     hears b'please go out!\\n', and then the end"} <= set(lines)
    assert {f"{who:<8}  hears nothing, and then the end" for who in ("silent", "dripping")} <= set(
        lines
    )
    verdicts = [line.split()[1:] for line in lines if line.startswith("server ")]
    assert sorted(" ".join(words[: words.index("in")]) for words in verdicts) == [
        "accepted right",
        "rejected wrong",
        "time out dripping",
        "time out silent",
    ]
    limits = {words[-1] for words in verdicts if words[0] == "time"}
    assert limits == {"idle_timeout", "handshake_timeout"}


def test_the_demo_is_one_command(start):
    program = start.program(sys.executable, "-m", "sockproto", "demo")

    program.wait_for(r"hears b'welcome to server!\\n', and then the end")
