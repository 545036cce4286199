"""Where and with what it was measured; a figure without that means nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.contenders import CONTENDERS
from sockproto import __version__

_ASK = {
    "gcc": ("gcc", "--version"),
    "go": ("go", "version"),
    "node": ("node", "--version"),
    "haproxy": ("haproxy", "-v"),
    "socat": ("socat", "-V"),
}
_VERSION = re.compile(r"\d+\.\d+[.\w+-]*")


def machine(cpuinfo: str | None = None) -> str:
    """The processor, its cores and the kernel, in one line."""
    text = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    model = " ".join(found[1].split()) if found else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}"


def date() -> str:
    """Today, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of sockproto and of what the named contenders are made of."""
    found = {
        "sockproto": __version__,
        "Twisted": version("Twisted"),
        "Python": platform.python_version(),
    }
    wanted = set(names)
    for each in CONTENDERS:
        if each.name not in wanted:
            continue
        for package in each.packages:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "unknown"
        for program in each.programs:
            found[program] = _program(program)
    return found


def _program(name: str) -> str:
    if shutil.which(name) is None:
        return "unknown"
    told = subprocess.run(_ASK[name], capture_output=True, text=True, timeout=20)
    match = _VERSION.search(told.stdout)
    return match[0] if match else "unknown"
