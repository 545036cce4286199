"""``sockproto new-handshake`` writes a small package with a handshake whose tests pass at once."""

from __future__ import annotations

import keyword
import re
import sys
from argparse import ArgumentParser, Namespace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from sockproto.core.errors import ConfigurationError
from sockproto.plugins import describe_handshakes

WRITTEN = 0
"""The exit status, beside that of a mistake."""

MAX_NAME = 40

_FILES = {
    "module.py.txt": "@MODULE@.py",
    "test_module.py.txt": "tests/test_@MODULE@.py",
    "setup.cfg.txt": "setup.cfg",
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
}
"""What is written, and from what."""


def configure(parser: ArgumentParser) -> None:
    """Say what the command takes."""
    parser.description = (
        "Write a package with a handshake: the module, its tests, the entry point that makes "
        "--handshake NAME find it, and a README. It is yours from then on."
    )
    parser.epilog = "Exit status: 0 written, 2 usage."
    parser.add_argument("name", metavar="NAME", help="what --handshake will call it")
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="D",
        help="where to write it; a new or an empty one (default: sockproto-NAME)",
    )
    parser.set_defaults(run=_new_handshake)


def _new_handshake(options: Namespace) -> int:
    name = _checked(options.name)
    folder: Path = options.directory or Path(f"sockproto-{name}")
    words = _words(name)
    written = {
        folder / _filled(target, words): _filled(_template(source), words)
        for source, target in _FILES.items()
    }
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigurationError(f"{folder} is there already; name another --directory")
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder}: {error.strerror}") from error
    print(f"wrote {folder}: the handshake is in {words['MODULE']}.py", file=sys.stdout)
    print(f"next: cd {folder} && pip install -e '.[test]' && python -m pytest", file=sys.stdout)
    return WRITTEN


def _checked(name: str) -> str:
    """
    See whether a handshake can be called so.

    Raises:
        ConfigurationError: If it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > MAX_NAME:
        raise ConfigurationError(
            f"a handshake cannot be called {name[:MAX_NAME]!r}: take at most {MAX_NAME} small "
            "letters, digits and single hyphens, with a letter first"
        )
    module = name.replace("-", "_")
    # It would hide the module that there is from its own tests, which are in "tests".
    if keyword.iskeyword(module) or module == "tests" or _is_module(module):
        raise ConfigurationError(
            f"a handshake cannot be called {name!r}: Python has a module or a word of that name"
        )
    known = {each.name for each in describe_handshakes()}
    if name in known:
        raise ConfigurationError(f"there is a handshake {name!r} already; take another name")
    return name


def _is_module(name: str) -> bool:
    found = find_spec(name)
    # A folder without an __init__.py has no origin, and may be anything.
    return name in sys.stdlib_module_names or (found is not None and found.origin is not None)


def _words(name: str) -> dict[str, str]:
    """What stands in the templates, and what it stands for."""
    return {
        "NAME": name,
        "MODULE": name.replace("-", "_"),
        "CLASS": "".join(part.capitalize() for part in name.split("-")),
        "TITLE": name.replace("-", " ").capitalize(),
    }


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def _template(name: str) -> str:
    return (files("sockproto.testing") / "template" / name).read_text()
