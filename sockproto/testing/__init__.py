"""
Test a handshake: play bytes into it, or both its sides against each other, or start a server.

::

    from sockproto.testing import converse

    def test_the_word_opens_the_door():
        assert converse(Passphrase(b"sesame").serve, b"sesame\\n") == Accept(b"OK\\n")

The names are resolved when they are first used (PEP 562), because pytest imports this package in
every test run, also in those that have nothing to do with it. That is why no module here is called
like a function in it: once imported, the module would stand where the function belongs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockproto._lazy import lazy_names

if TYPE_CHECKING:
    from sockproto.testing.conformance.examine import assert_conforms, conform
    from sockproto.testing.conformance.results import Report, Result, Verdict
    from sockproto.testing.conversation import Story, converse, play
    from sockproto.testing.cuts import every_cut
    from sockproto.testing.dialogues import Dialogue, dialogue
    from sockproto.testing.rehearsal import Rehearsal, rehearse
    from sockproto.testing.server import RunningServer, serve

_HOME = {
    "Dialogue": "dialogues",
    "Rehearsal": "rehearsal",
    "Report": "conformance.results",
    "Result": "conformance.results",
    "RunningServer": "server",
    "Story": "conversation",
    "Verdict": "conformance.results",
    "assert_conforms": "conformance.examine",
    "conform": "conformance.examine",
    "converse": "conversation",
    "dialogue": "dialogues",
    "every_cut": "cuts",
    "play": "conversation",
    "rehearse": "rehearsal",
    "serve": "server",
}

__all__ = [
    "Dialogue",
    "Rehearsal",
    "Report",
    "Result",
    "RunningServer",
    "Story",
    "Verdict",
    "assert_conforms",
    "conform",
    "converse",
    "dialogue",
    "every_cut",
    "play",
    "rehearse",
    "serve",
]

__getattr__, __dir__ = lazy_names(__name__, _HOME)
