"""
What an installation brings along, and that twistd finds it.

.ci/installed.py goes on from here, and shakes hands through what is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from sysconfig import get_path

import pytest

CHECKOUT = Path(__file__).parents[2]
BUILT_FROM = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "sockproto", "twisted")
PATIENCE = 300.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy: building leaves traces where it builds."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in BUILT_FROM:
        if (CHECKOUT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "dropin.cache")
            shutil.copytree(CHECKOUT / name, copy / name, ignore=ignore)
        else:
            shutil.copy(CHECKOUT / name, copy / name)
    return copy


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pip(*arguments: str | Path, cwd: Path) -> None:
    run(sys.executable, "-m", "pip", *arguments, cwd=cwd)


def unisolated() -> list[str]:
    """Build with the setuptools that is here, where it is new enough for our pyproject.toml."""
    try:
        version = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        return []
    return ["--no-build-isolation"] if int(version.split(".")[0]) >= 77 else []


def environment(folder: Path) -> Path:
    """A fresh environment that has everything that is installed here, except us."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for here in {Path(get_path("purelib")), Path(get_path("platlib"))}:
        borrow(here, site)
    return folder


def borrow(here: Path, there: Path) -> None:
    """Link what is here from there. The folder in which we would install is a folder of its own."""
    for entry in here.iterdir():
        if "sockproto" in entry.name or entry.suffix in (".pth", ".cache"):
            continue
        if entry.name == "twisted" or entry.parts[-2:] == ("twisted", "plugins"):
            (there / entry.name).mkdir()
            borrow(entry, there / entry.name)
        elif not (there / entry.name).exists():
            (there / entry.name).symlink_to(entry)


def offered(folder: Path, cwd: Path) -> list[str]:
    """The commands that twistd and twist of an environment offer, from wherever they are asked."""
    python = [folder / "bin" / "python", "-P"]
    twistd = run(*python, "-c", "from twisted.scripts.twistd import run; run()", "--help", cwd=cwd)
    twist = run(*python, "-m", "twisted", "--help", cwd=cwd)
    found = [re.findall(r"^    (\w+) ", text, re.MULTILINE) for text in (twistd, twist)]
    assert found[0] == found[1]
    assert "web" in found[0]
    return found[0]


def test_an_editable_install_is_found_by_twistd(tmp_path, checkout):
    there = environment(tmp_path / "there")
    assert "sockserver" not in offered(there, tmp_path)

    install = ["--python", there / "bin" / "python", "install", "--no-deps", *unisolated()]
    pip(*install, "-e", checkout, cwd=tmp_path)

    assert "sockserver" in offered(there, tmp_path)
    found = "import sockproto; print(sockproto.__file__)"
    where = run(there / "bin" / "python", "-P", "-c", found, cwd=tmp_path)
    assert where.strip() == str(checkout / "sockproto" / "__init__.py")


def test_a_wheel_brings_what_is_ours_and_nothing_of_twisted(tmp_path, checkout):
    pip("wheel", "--no-deps", *unisolated(), "-w", tmp_path, checkout, cwd=tmp_path)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = [*(checkout / "sockproto").rglob("*.py"), *(checkout / "sockproto").rglob("*.txt")]
    assert names == {str(path.relative_to(checkout)) for path in ours} | {
        "sockproto/py.typed",
        "twisted/plugins/sockproto_dropin.py",
    }

    # It comes and goes, and Twisted stays as it was.
    there = environment(tmp_path / "there")
    before = offered(there, tmp_path)
    python = ["--python", there / "bin" / "python"]
    pip(*python, "install", "--no-deps", wheel, cwd=tmp_path)
    assert set(offered(there, tmp_path)) == {*before, "sockserver"}
    pip(*python, "uninstall", "-y", "sockproto", cwd=tmp_path)
    assert offered(there, tmp_path) == before
