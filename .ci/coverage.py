"""Check that each module of core/, transport/ and plugins.py is covered by its own tests alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MODULES = sorted(
    module
    for module in [
        *Path("sockproto/core").glob("*.py"),
        *Path("sockproto/transport").glob("*.py"),
        Path("sockproto/plugins.py"),
    ]
    if module.name != "__init__.py"
)


def trouble_with(module: Path) -> str | None:
    """Run the tests of one module; what is wrong, or None."""
    tests = Path("tests", *module.parts[1:-1], f"test_{module.name}")
    if not tests.exists():
        return f"{module} has no {tests}"
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COVERAGE_FILE": f"{folder}/coverage"}
        coverage = [sys.executable, "-m", "coverage"]
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
        for command in (
            [*coverage, "run", *pytest],
            [*coverage, "report", f"--include={module}", "--fail-under=100"],
        ):
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                return f"{module} by {tests}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
    return None


# Not more than a machine stands whose cores are many, and not all for us.
with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
    troubles = [trouble for trouble in pool.map(trouble_with, MODULES) if trouble]
for trouble in troubles:
    print(trouble)
print(f"{len(MODULES) - len(troubles)} of {len(MODULES)} modules are covered by their own tests")
sys.exit(bool(troubles))
