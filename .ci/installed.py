"""
Check an installed sockproto from outside: twistd and twist know it, and each shakes a hand.

Usage: python installed.py ENVIRONMENT
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from threading import Timer


def main(environment: Path) -> None:
    for runner in ("twistd", "twist"):
        helped = subprocess.run(
            [environment / "bin" / runner, "--help"], capture_output=True, text=True, timeout=300
        )
        if "sockserver" not in helped.stdout:
            sys.exit(f"{runner} --help does not list sockserver")
    shake(environment, ["twistd", "-n", "--pidfile="])
    shake(environment, ["twist"])
    print(f"twistd and twist of {environment.name} know sockserver and serve a handshake")


def shake(environment: Path, runner: list[str]) -> None:
    """Start a server, and be the lesson's client."""
    listen = ["sockserver", "--listen", "tcp:0:interface=127.0.0.1"]
    program = environment / "bin" / runner[0]
    server = subprocess.Popen(
        [program, *runner[1:], *listen], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    alarm = Timer(300, server.kill)
    alarm.start()
    try:
        assert server.stdout is not None
        for line in server.stdout:
            found = re.search(r"listens on 127\.0\.0\.1:(\d+)", line)
            if found:
                break
        else:
            sys.exit(f"{runner[0]} sockserver does not listen")
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=60) as client:
            client.sendall(b"1")
            reply = client.recv(1024)
        if reply != b"welcome to server!":
            sys.exit(f"{runner[0]} sockserver answered {reply!r}")
    finally:
        alarm.cancel()
        server.terminate()
        server.wait(timeout=60)
        server.stdout.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
