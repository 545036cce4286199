"""
Each mistake that an operator can type is one line and exit status 1, under every runner.

Those in where to listen are in test_lesson.py, as L6; the words of each option's mistakes in
tests/service/test_options.py. Here they are typed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .kit import BIN, NOWHERE, PATIENCE

RUNNERS = {
    "twistd": (BIN / "twistd", "-n", "--pidfile="),
    "twist": (BIN / "twist",),
    # Told before it goes to the background, where nobody would hear it.
    "daemon": (BIN / "twistd", "--pidfile=daemon.pid", "--logfile=daemon.log"),
}

FILES = {
    "syntax.toml": "listen = tcp:8001\n",
    "typo.toml": "idle_timeout = 5\n",
    "type.toml": "backlog = true\n",
    "time.toml": 'close-timeout = "soon"\n',
    "nowhere.toml": "listen = []\n",
    "broken.py": "raise RuntimeError('no database\\nat all')\n",
    "leaves.py": "import sys\nsys.exit('goodbye')\n",
    "wrong.py": "def door(:\n",
    "missing.py": "import no_such_module\n",
    "door.py": (
        "class Raises:\n"
        "    def __init__(self, size: int = 1):\n"
        "        raise RuntimeError('no database\\nat all')\n"
        "class OneSided:\n"
        "    async def connect(self, peer):\n"
        "        pass\n"
        "number = 7\n"
    ),
    "empty": "",
    "long": "a" * 1025,
}


@dataclass(frozen=True)
class Mistake:
    """What is typed, or set, and what is said of it."""

    typed: str
    said: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.typed or " ".join(f"{name}={text}" for name, text in self.environment.items())


MISTAKES = [
    # Options.
    Mistake("--nope", "option --nope not recognized; see --help"),
    Mistake("--backlog", "option --backlog requires argument; see --help"),
    Mistake("8001", "'8001' is no option; see --help"),
    Mistake("--idle-timeout 5d", "--idle-timeout: '5d' is not a time above zero; write it like"),
    Mistake("--handshake-timeout 0", "--handshake-timeout: '0' is not a time above zero"),
    Mistake("--close-timeout -1", "--close-timeout: '-1' is not a time above zero"),
    Mistake("--max-handshake-bytes 4kb", "--max-handshake-bytes: '4kb' is not a size above zero"),
    Mistake("--backlog 2147483648", "--backlog: '2147483648' is not a whole number from 1 to"),
    # Who may start.
    Mistake("--max-pending 5:1", "--max-pending: '5:1' is not a cap on pending handshakes; write"),
    Mistake(
        "--allow 10.0.0.1/8", "--allow: '10.0.0.1/8' has bits set beyond its first 8; write 10"
    ),
    Mistake("", "SOCKSERVER_PENALTIES: 'yes' is not on or off", {"SOCKSERVER_PENALTIES": "yes"}),
    # Files and the environment.
    Mistake("--config no.toml", "cannot read no.toml: No such file or directory"),
    Mistake("--config .", "cannot read .: Is a directory"),
    Mistake("--config syntax.toml", "syntax.toml is not TOML: Invalid value (at line 1"),
    Mistake("--config typo.toml", "typo.toml sets idle_timeout, which is no option; see --help"),
    Mistake("--config type.toml", "backlog in type.toml is no setting: expected a text or a n"),
    Mistake("--config time.toml", "close-timeout in time.toml: 'soon' is not a time above zero"),
    Mistake("--config nowhere.toml", "listen in nowhere.toml is empty; name an endpoint like"),
    Mistake("", "SOCKSERVER_BACKLOG: 'many' is not a whole", {"SOCKSERVER_BACKLOG": "many"}),
    Mistake("", "cannot read no.toml: No such file", {"SOCKSERVER_CONFIG": "no.toml"}),
    Mistake("", "unknown handshake 'hello': the known", {"SOCKSERVER_HANDSHAKE": "hello"}),
    # Handshakes.
    Mistake("--handshake welcom", "unknown handshake 'welcom': the known ones are welcome, "),
    Mistake("--handshake welcome:size=1:2:3:4", "handshake 'welcome' takes at most 3 arguments"),
    Mistake("--handshake passphrase", "passphrase needs one of a word, file=PATH or env=NAME"),
    Mistake("--handshake passphrase:file=no", "passphrase cannot read no: No such file or dir"),
    Mistake("--handshake passphrase:file=empty", "passphrase needs a word of 1 to 1024 bytes "),
    Mistake("--handshake passphrase:file=long", "passphrase needs a word of 1 to 1024 bytes wi"),
    Mistake("--handshake passphrase:env=NO_WORD", "passphrase finds no variable NO_WORD in the"),
    Mistake("--handshake door:Raises", "handshake 'door:Raises' cannot be made: RuntimeError: "),
    Mistake("--handshake door:Raises:x", "handshake 'door:Raises' needs a whole number as 'size'"),
    Mistake("--handshake door:OneSided", "handshake door:OneSided has no server's side"),
    Mistake("--handshake door:number", "handshake 'door:number' is something of type int, which"),
    Mistake("--handshake door:Nobody", "unknown handshake 'door' (module 'door' has no such att"),
    Mistake("--handshake broken:Door", "handshake module 'broken' exists, but cannot be imported"),
    Mistake("--handshake leaves:Door", "handshake module 'leaves' exists, but cannot be imported"),
    Mistake("--handshake wrong:Door", "handshake module 'wrong' exists, but cannot be imported: "),
    Mistake("--handshake missing:Door", "handshake module 'missing' exists, but cannot be impor"),
    # Sessions.
    Mistake("--session eco", "unknown session 'eco': the known ones are echo, discard"),
    Mistake("--session echo:1", "session 'echo' takes no arguments"),
    Mistake("--session a=echo --session a=echo", "a second session a; write --session NAME=SPEC"),
    Mistake("--session door:number", "session 'door:number' is something of type int, which is "),
    Mistake("--session broken:Chat", "session module 'broken' exists, but cannot be imported: "),
    Mistake("--session door:Raises", "session 'door:Raises' cannot be made: RuntimeError: no d"),
]

OF_EACH_KIND = MISTAKES[:: len(MISTAKES) // 6]
"""All runners go through the same door. It is enough to see that for some."""


@pytest.mark.parametrize(
    ("runner", "mistakes"),
    [
        *((runner, OF_EACH_KIND) for runner in RUNNERS),
        pytest.param("twistd", MISTAKES, marks=pytest.mark.slow),
    ],
    ids=[*RUNNERS, "all"],
)
def test_a_mistake_is_one_line_and_status_1(tmp_path, runner, mistakes):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)

    # As many as there are cores for, but not so many that each has to wait for long.
    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        answers = list(pool.map(lambda each: enter(runner, each, tmp_path), mistakes))

    wrong = [
        f"{mistake}: status {status}, {said}"
        for mistake, (status, said) in zip(mistakes, answers, strict=True)
        if status != 1
        or said.count("\n") != 1
        or not said.startswith(f"sockserver: {mistake.said}")
    ]
    assert wrong == []
    assert not (tmp_path / "daemon.pid").exists()


def enter(runner: str, mistake: Mistake, folder: Path) -> tuple[int, str]:
    """Type it; gives the exit status and everything that was said."""
    done = subprocess.run(
        [*RUNNERS[runner], "sockserver", *mistake.typed.split()],
        cwd=folder,
        env={**os.environ, **mistake.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout


def test_a_mistake_leaves_nothing_of_the_sockets_that_were_in_order(tmp_path):
    listen = ["--listen", "unix:door", "--listen", f"tcp:0:interface={NOWHERE}"]

    status, said = enter("twistd", Mistake(" ".join(listen), ""), tmp_path)

    assert status == 1
    assert said.startswith(f"sockserver: cannot listen on tcp:0:interface={NOWHERE}: ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
