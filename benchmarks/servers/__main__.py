"""``python -m benchmarks.servers KIND PORT`` runs one of the servers that are written in Python."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from benchmarks.job import JOBS, Job

KINDS = {
    "asyncio": "with_asyncio",
    "uvloop": "with_uvloop",
    "streams": "with_streams",
    "gevent": "with_gevent",
    "tornado": "with_tornado",
    "twisted": "with_twisted",
    "portable": "with_sockproto",
}


def main() -> None:
    """Serve until somebody ends the process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("port", type=int)
    parser.add_argument("--job", choices=JOBS, default=JOBS[0])
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS")
    parser.add_argument("--certificate", type=Path, metavar="PEM")
    parser.add_argument("--backend", type=int, default=0, metavar="PORT")
    given = parser.parse_args()
    job = Job(given.job, given.port, given.timeout, given.certificate, given.backend)
    # Not imported above: a server should weigh what its own library weighs.
    import_module(f"benchmarks.servers.{KINDS[given.kind]}").serve(job)


main()
