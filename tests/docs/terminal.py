"""
Play the terminals of a page, and compare what they say.

Each ``console`` block is a terminal: a command after ``$``, and under it what it prints. A command
that goes on with a backslash does so in the next line. All of a page's terminals share a folder,
which holds the files of ``docs/examples``, and the ports that the page names stand for free ones.

A command whose output says ``listens on`` is a server. It runs until the page is over, so that what
it says about the clients further down can stand where a reader sees it, under the command.

A page that includes an example's ``setup.cfg`` is about what there is once that is installed.

A ``sleep`` takes some times as long as the page says, which is enough for whoever reads it.

A line of three dots stands for any lines. What is never the same twice matches its like: a time, a
duration, the port of a client, our version, the folder of a file that an option names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from integration.kit import BIN, Program, Starter, free_port

from .pages import EXAMPLES, blocks_of

PORTS = re.compile(r"\b(8001|8471)\b")
"""The ports that the documentation uses."""

LISTENS = "listens on"

TAKES_LONG = "sockproto demo"
"""The command that is played in a test of its own."""

_OVER = "-- the command is over --"

_SLEEPER = "sleep() { command sleep $1 $1 $1 $1 $1; }\n"
"""Programs may begin slowly, and sleep(1) adds its arguments up."""

_ALIKE = (
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}",
    r"(?<=sockproto )\d\S*(?= listens)",
    r"(?<=127\.0\.0\.[12]:)\d{4,5}\b",
    r"\d+\.\d+ m?s\b",
    r"(?<=in )\d+\.\d+s\b",
    r"(?<=\w=)/(?:[\w.-]+/)+",
)
_EVER_NEW = re.compile("|".join(f"({each})" for each in _ALIKE))


@dataclass(frozen=True)
class Command:
    """
    A command, and what it prints.

    Attributes:
        text: What stands after the prompt.
        output: The lines under it.
    """

    text: str
    output: tuple[str, ...]

    @property
    def stays(self) -> bool:
        """Whether it is a server."""
        return any(LISTENS in line for line in self.output)


def commands_of(text: str) -> list[Command]:
    """The commands of one terminal."""
    commands: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            command, output = commands.pop()
            commands.append((f"{command}\n{line}", output))
        elif line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
        continued = line.endswith("\\") and not commands[-1][1]
    return [Command(command, tuple(output)) for command, output in commands]


def play(page: Path, start: Starter, *, long: bool = False) -> None:
    """
    Play all the terminals of a page.

    Raises:
        AssertionError: If one says something else than the page.
    """
    ports: dict[str, str] = {}

    def with_free_ports(text: str) -> str:
        return PORTS.sub(lambda found: ports.setdefault(found[0], str(free_port())), text)

    for file in EXAMPLES.rglob("*"):
        if file.is_file() and file.suffix != ".pyc":
            copy = start.cwd / file.relative_to(EXAMPLES)
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(with_free_ports(file.read_text()))
    environment = _environment(start.cwd)
    servers: list[tuple[Program, Command]] = []
    for block in blocks_of(page):
        if block.kind == "include" and block.text.endswith("/setup.cfg"):
            _install((page.parent / block.text).parent, start.cwd / "site")
        if block.kind != "console" or (f"$ {TAKES_LONG}" in block.text) != long:
            continue
        commands = commands_of(with_free_ports(block.text))
        stays = [each for each in commands if each.stays]
        assert stays in ([], commands[-1:]), f"{block}: nothing can follow a server in its terminal"
        passing = commands[: len(commands) - len(stays)]
        for command, said in zip(passing, _run(passing, start, environment), strict=True):
            assert _matches(command.output, said), _differs(str(block), command, said)
        for command in stays:
            # Where a command names no port, the lesson's is meant.
            listen = {"SOCKSERVER_LISTEN": f"tcp:{ports.get('8001')}:interface=127.0.0.1"}
            more = {} if "--config" in command.text else listen
            program = start.program(
                "bash", "-c", f"exec {command.text}", env={**environment, **more}
            )
            program.wait_for(LISTENS)
            servers.append((program, command))
    for program, command in servers:
        for line in command.output:
            if line != "...":
                program.wait_for(f"^{_pattern(line)}$", command.output.count(line))
        program.stop()


def _run(
    commands: Sequence[Command], start: Starter, environment: Mapping[str, str]
) -> Iterator[list[str]]:
    """Run commands in one shell; gives the lines that each has printed."""
    script = "".join(
        f"{{\n{each.text}\n}} </dev/null\nstatus=$?\nprintf '\\n{_OVER}\\n'\n(exit $status)\n"
        for each in commands
    )
    program = start.program("bash", "-c", _SLEEPER + script, env=environment)
    program.wait()
    said: list[str] = []
    for line in program.lines:
        if line == _OVER:
            # Ours, or the end of the command's last line.
            yield said[:-1] if said[-1:] == [""] else said
            said = []
        else:
            said.append(line)


def _environment(folder: Path) -> dict[str, str]:
    """What a reader has after ``. .venv/bin/activate``."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "site"),
        # A program that sees a terminal does not hold back what it prints, and knows its width.
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "80",
    }


def _install(project: Path, site: Path) -> None:
    """Do what ``pip install`` would, as far as it matters here, and without a network."""
    config = ConfigParser()
    config.read(project / "setup.cfg")
    name, version = config["metadata"]["name"], config["metadata"]["version"]
    installed = site / f"{name}-{version}.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    entries = config["options.entry_points"].items()
    groups = "".join(f"[{group}]{names}\n" for group, names in entries)
    (installed / "entry_points.txt").write_text(groups)
    for module in config["options"]["py_modules"].split():
        shutil.copy(project / f"{module}.py", site)


def _matches(expected: Sequence[str], said: Sequence[str]) -> bool:
    pattern = "".join(r"(?:.*\n)*" if line == "..." else f"{_pattern(line)}\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in said)) is not None


def _pattern(line: str) -> str:
    """A pattern for a line; what is never the same twice may be another."""
    parts = []
    end = 0
    for found in _EVER_NEW.finditer(line):
        assert found.lastindex
        parts += [re.escape(line[end : found.start()]), _ALIKE[found.lastindex - 1]]
        end = found.end()
    return "".join(parts) + re.escape(line[end:])


def _differs(where: str, command: Command, said: Sequence[str]) -> str:
    shown = "\n".join(command.output)
    return f"{where}: $ {command.text}\n\nthe page shows\n{shown}\n\nit says\n" + "\n".join(said)
