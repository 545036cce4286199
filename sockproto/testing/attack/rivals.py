"""
Who is attacked by ``compare``: every server's name, its settings and how it is started.

They are set up alike as far as they can be: a peer has five seconds to say something, ten for all
of it where that can be said, and one address has at most 16 connections that have not been served,
where there is a way to count them. What a server cannot do stays out; that is the comparison.

All say ``OK`` to the line ``sesame``, except for sshd, which greets whoever comes. haproxy and
nginx pass connections on; what stands behind them is the bare Twisted server, which is not part of
what is measured.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sockproto.core.errors import ConfigurationError

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
"""What twistd's own script does; it also works where the script is not installed."""

BARE_TWISTED = (sys.executable, "-m", "sockproto.testing.attack.bare_twisted")

NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
SSHD_ROOM = Path("/run/sshd")
"""Where Debian puts one, and where sshd puts its children."""

WORD, ANSWER = b"sesame\n", b"OK\n"


@dataclass(frozen=True, slots=True)
class Places:
    """
    Where a rival may be.

    Attributes:
        folder: Where its files are.
        port: Where it listens.
        backend: Where the server behind it listens.
    """

    folder: Path
    port: int
    backend: int


@dataclass(frozen=True, slots=True)
class Rival:
    """
    A server to attack.

    Attributes:
        name: What ``--servers`` takes, and the table shows.
        settings: How it is set up, in one line.
        command: Makes its command line, and writes the files that it needs.
        send, expect: What its honest client says and hears.
        needs: Programs and files that have to be there.
        asks: How to ask for its version, or nothing.
        passes_on: Whether a server has to stand behind it.
    """

    name: str
    settings: str
    command: Callable[[Places], list[str]]
    send: bytes = WORD
    expect: bytes = ANSWER
    needs: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    passes_on: bool = False

    def missing(self) -> str | None:
        """What it needs and does not find, or None."""
        for each in self.needs:
            if shutil.which(each) is None and not Path(each).exists():
                return each
        return None

    def prepare(self, places: Places) -> str:
        """Write its files; gives its command as a person would type it."""
        return shlex.join(self.command(places))


def _sockproto(places: Places) -> list[str]:
    (places.folder / "word").write_bytes(WORD)
    return [
        *TWISTD,
        "sockserver",
        f"--listen=tcp:{places.port}:interface=127.0.0.1",
        f"--handshake=passphrase:file={places.folder / 'word'}",
        "--exempt=none",
    ]


def _twisted(places: Places) -> list[str]:
    return [*BARE_TWISTED, str(places.port)]


def _twisted_as_usual(places: Places) -> list[str]:
    # What a login and systemd give: a soft limit that a program may raise, and Twisted does not.
    return ["prlimit", "--nofile=1024:", *_twisted(places)]


HAPROXY = """\
global
    nbthread 1
defaults
    mode tcp
    backlog 4096
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend door
    bind 127.0.0.1:{port}
    stick-table type ip size 64k expire 10m store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt 16 }}
    tcp-request inspect-delay 5s
    tcp-request content accept if {{ req.payload(0,7) -m bin {word} }}
    tcp-request content reject
    default_backend words
backend words
    server word 127.0.0.1:{backend}
"""


def _haproxy(places: Places) -> list[str]:
    file = places.folder / "haproxy.cfg"
    filled = HAPROXY.format(port=places.port, backend=places.backend, word=WORD.hex())
    file.write_text(filled)
    return ["haproxy", "-db", "-f", str(file)]


NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections 16384;
}}
stream {{
    limit_conn_zone $binary_remote_addr zone=sources:10m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        limit_conn sources 16;
        proxy_connect_timeout 5s;
        proxy_timeout 5s;
        proxy_pass 127.0.0.1:{backend};
    }}
}}
"""


def _nginx(places: Places) -> list[str]:
    file = places.folder / "nginx.conf"
    filled = NGINX.format(
        module=NGINX_MODULE, folder=places.folder, port=places.port, backend=places.backend
    )
    file.write_text(filled)
    return ["nginx", "-p", str(places.folder), "-c", str(file), "-e", "stderr"]


SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/key
PidFile none
UseDNS no
LoginGraceTime 10
MaxStartups 256:30:1024
PerSourceMaxStartups 16
"""


def _sshd(places: Places) -> list[str]:
    key, file = places.folder / "key", places.folder / "sshd_config"
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(made, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    file.write_text(SSHD.format(port=places.port, folder=places.folder))
    # It starts itself anew for every client, and wants to know where it is.
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    return [sshd, "-D", "-e", "-f", str(file)]


_RIVALS = (
    Rival("sockproto", "twistd sockserver --handshake passphrase --exempt none", _sockproto),
    Rival(
        "Twisted",
        "LineReceiver with TimeoutMixin, 5 s, reset by bytes; it has nothing else",
        _twisted,
    ),
    Rival(
        "Twisted-1024",
        "the same with the usual 1024 descriptors, which it does not raise by itself",
        _twisted_as_usual,
        needs=("prlimit",),
    ),
    Rival(
        "haproxy",
        "one thread, inspect-delay 5 s for the word, at most 16 per address by stick-table",
        _haproxy,
        needs=("haproxy",),
        asks=("haproxy", "-v"),
        passes_on=True,
    ),
    Rival(
        "nginx",
        "stream, one worker, proxy_timeout 5 s, limit_conn 16",
        _nginx,
        needs=("nginx", str(NGINX_MODULE)),
        asks=("nginx", "-v"),
        passes_on=True,
    ),
    Rival(
        "sshd",
        "LoginGraceTime 10, MaxStartups 256:30:1024, PerSourceMaxStartups 16",
        _sshd,
        send=b"",
        expect=b"SSH-",
        needs=("sshd", "ssh-keygen", str(SSHD_ROOM)),
        asks=("sshd", "-V"),
    ),
)

RIVALS: Mapping[str, Rival] = {each.name.lower(): each for each in _RIVALS}
"""All of them, by the name that a person types."""


def chosen(names: str) -> list[Rival]:
    """
    Choose rivals by their names, with commas between; all of them by none.

    Raises:
        ConfigurationError: If one does not exist.
    """
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in RIVALS:
            raise ConfigurationError(f"no server {name!r}; there are {', '.join(RIVALS)}")
    return [RIVALS[name] for name in wanted or RIVALS]
