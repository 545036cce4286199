"""uvloop under asyncio's callback protocols: libuv, in Cython."""

from __future__ import annotations

import uvloop

from benchmarks.job import Job
from benchmarks.servers.with_asyncio import run


def serve(job: Job) -> None:
    """Do the job, for ever."""
    uvloop.run(run(job))
