"""
Who is measured: every server's name, what it needs, what it can do and how it is started.

A contender that this machine cannot run is skipped by name, with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from benchmarks.job import BACKLOG, ECHO, FORWARD, LESSON, SESSION, WORD, Job
from benchmarks.workshop import HERE, Workshop

Command = list[str]
Starter = Callable[[Job, Workshop], Command]

TLS = "tls"
"""What a contender can do besides its jobs: the same over TLS."""

# What twistd's own script does; it also works where the script is not installed.
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")

SOCKSERVER_JOBS = {
    LESSON: ("--handshake", "welcome"),
    SESSION: ("--handshake", f"passphrase:{WORD.decode()}", "--session", "echo"),
    FORWARD: (
        "--handshake",
        f"passphrase:{WORD.decode()}",
        "--session",
        "forward:tcp:127.0.0.1:{backend}",
    ),
}
"""The options of ``twistd sockserver`` for each job."""

SOCKSERVER_DOOR = "tcp:{port}:interface=127.0.0.1"
SOCKSERVER_TLS_DOOR = "tls:{port}:interface=127.0.0.1:cert={pem}:key={pem}"

SOCKSERVER_ROOM = (
    ("--max-connections", "15000"),
    ("--max-pending", "15000:100:15000"),
    ("--max-pending-tls", "15000:100:15000"),
)
"""Room for ten thousand pending peers. A version without these options needs none."""

QUIET = ("--access-log", "off")

FLOOR, UVLOOP, TWISTED, SOCKPROTO = "c", "uvloop", "twisted", "sockproto"
HAPROXY, SOCAT = "haproxy", "socat"
"""Those whom the sections and the report single out."""

DOES = {
    LESSON: "serve the lesson",
    SESSION: "hand over to a session",
    ECHO: "echo",
    FORWARD: "forward",
    TLS: "speak TLS",
}


@dataclass(frozen=True)
class Contender:
    """
    A server under test.

    Attributes:
        name: What ``--only`` takes.
        title: What the tables show.
        command: Makes its command line.
        can: Its jobs, and ``TLS``.
        programs: Programs that have to be in the PATH.
        packages: Python packages that have to be installed.
        environment: Variables that it is started with.
    """

    name: str
    title: str
    command: Starter
    can: tuple[str, ...]
    programs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def missing(self, needed: Iterable[str]) -> str | None:
        """Why it cannot run here, or None. ``needed`` is what it is asked to do."""
        for program in self.programs:
            if shutil.which(program) is None:
                return f"not measured: {program} is not in the PATH"
        for package in self.packages:
            if find_spec(package) is None:
                return f"not measured: the Python package {package} is not installed"
        for each in needed:
            if each not in self.can:
                return f"not measured: it does not {DOES[each]}"
        return None

    def caveat(self) -> str | None:
        """What a reader of its figures has to know, or None."""
        if self.name == SOCKPROTO and QUIET[0] not in sockserver_options():
            return f"this version has no {QUIET[0]}; its access log is on"
        return None


def _python(kind: str) -> Starter:
    def command(job: Job, workshop: Workshop) -> Command:
        made = [sys.executable, "-m", "benchmarks.servers", kind, str(job.port)]
        made += ["--job", job.name, "--timeout", f"{job.timeout:g}"]
        if job.certificate is not None:
            made += ["--certificate", str(job.certificate)]
        if job.backend:
            made += ["--backend", str(job.backend)]
        return made

    return command


def _c(job: Job, workshop: Workshop) -> Command:
    return [str(workshop.c("servers/server.c")), str(job.port), job.name]


def _go(job: Job, workshop: Workshop) -> Command:
    return [str(workshop.go("servers/server.go")), str(job.port), f"{job.timeout:g}"]


def _node(job: Job, workshop: Workshop) -> Command:
    return ["node", str(HERE / "servers" / "server.js"), str(job.port), f"{job.timeout:g}"]


def _sockserver(*more: str) -> Starter:
    def command(job: Job, workshop: Workshop) -> Command:
        door = SOCKSERVER_DOOR if job.certificate is None else SOCKSERVER_TLS_DOOR
        listen = door.format(port=job.port, pem=job.certificate)
        made = [*TWISTD, "sockserver", "--listen", listen, "--backlog", str(BACKLOG)]
        made += ["--idle-timeout", f"{job.timeout:g}"]
        made += ["--handshake-timeout", f"{2 * job.timeout:g}"]
        made += [word.format(backend=job.backend) for word in SOCKSERVER_JOBS[job.name]]
        for option in (*SOCKSERVER_ROOM, *([more] if more else [])):
            if option[0] in sockserver_options():
                made += option
        return made

    return command


@cache
def sockserver_options() -> frozenset[str]:
    """The options that this version of ``twistd sockserver`` knows."""
    command = [*TWISTD, "sockserver", "--help"]
    told = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=60)
    words = told.stdout.replace(",", " ").replace("=", " ").split()
    return frozenset(word for word in words if word.startswith("--"))


def _haproxy(job: Job, workshop: Workshop) -> Command:
    file = workshop.write(
        f"haproxy-{job.port}.cfg",
        "global\n"
        "    nbthread 1\n"
        "    maxconn 1000\n"
        "defaults\n"
        "    mode tcp\n"
        "    timeout connect 5s\n"
        "    timeout client 600s\n"
        "    timeout server 600s\n"
        "listen forward\n"
        f"    bind 127.0.0.1:{job.port}\n"
        f"    server backend 127.0.0.1:{job.backend}\n",
    )
    return ["haproxy", "-db", "-q", "-f", str(file)]


def _socat(job: Job, workshop: Workshop) -> Command:
    # Without fork: it serves one connection, in the process that we watch.
    listen = f"TCP-LISTEN:{job.port},bind=127.0.0.1,reuseaddr"
    return ["socat", listen, f"TCP:127.0.0.1:{job.backend}"]


CONTENDERS = (
    Contender(FLOOR, "C, epoll", _c, (LESSON, SESSION, ECHO), programs=("gcc",)),
    Contender(
        "go",
        "Go net, one core",
        _go,
        (LESSON,),
        programs=("go",),
        environment=(("GOMAXPROCS", "1"),),
    ),
    Contender("node", "Node net", _node, (LESSON,), programs=("node",)),
    Contender(
        UVLOOP,
        "uvloop protocol",
        _python("uvloop"),
        (LESSON, SESSION, ECHO, TLS),
        packages=("uvloop",),
    ),
    Contender("asyncio", "asyncio protocol", _python("asyncio"), (LESSON, SESSION, ECHO, TLS)),
    Contender("streams", "asyncio streams", _python("streams"), (LESSON,)),
    Contender("gevent", "gevent", _python("gevent"), (LESSON,), packages=("gevent",)),
    Contender("tornado", "Tornado", _python("tornado"), (LESSON,), packages=("tornado",)),
    Contender(
        TWISTED,
        "Twisted",
        _python("twisted"),
        (LESSON, SESSION, ECHO, FORWARD, TLS),
    ),
    Contender(
        SOCKPROTO,
        "twistd sockserver, no access log",
        _sockserver(*QUIET),
        (LESSON, SESSION, FORWARD, TLS),
    ),
    Contender(
        "sockproto-logging",
        "twistd sockserver, access log on",
        _sockserver(),
        (LESSON,),
    ),
    Contender(
        "sockproto-portable",
        "sockproto, ServerFactory",
        _python("portable"),
        (LESSON, SESSION),
    ),
    Contender(HAPROXY, "haproxy, mode tcp", _haproxy, (FORWARD,), programs=("haproxy",)),
    Contender(SOCAT, "socat", _socat, (FORWARD,), programs=("socat",)),
)

NAMES = tuple(each.name for each in CONTENDERS)
