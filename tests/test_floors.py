"""The floors of the house: imports only go down, there is no circle, and no reactor comes along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sockproto
import sockproto.testing

CHECKOUT = Path(__file__).parents[1]

FLOORS = (
    # From the bottom. What stands on one floor may import itself and whatever is below.
    "_version",
    "_lazy",
    "core",
    "credentials",
    "limits",
    "events",
    "signatures",
    "handshakes",
    "standard",
    "blocking",
    "aio",
    "admission",
    "transport",
    "sessions",
    "plugins",
    "service",
    "testing",
    "commands",
    "cli",
    # The public names. Inside the house nobody goes out to come in by the front door.
    "__init__",
    "__main__",
)

WITHOUT_TWISTED = FLOORS[: FLOORS.index("transport")]
"""The floors that are bytes, numbers and decisions: what they do can be tried without a reactor."""

BORROWED = {
    "sockproto.handshakes.scram": {"scramp"},
    "sockproto.handshakes.cred": {"twisted"},
    "sockproto.handshakes.certificate": {"cryptography"},
    "sockproto.handshakes.jwt": {"jwt", "cryptography"},
}
"""What a handshake needs beyond that. It is imported by whoever makes one, and by nobody else."""


def modules() -> dict[str, Path]:
    """Every module of the house by its name; a package is its ``__init__``."""
    found = {}
    for path in sorted((CHECKOUT / "sockproto").rglob("*.py")):
        parts = path.relative_to(CHECKOUT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[tuple[int, str]]:
    """
    What a module imports, and on which line.

    Wherever it says so: at the top, in a function, for the type checker only, or in a string like
    ``sockproto.handshakes.welcome:Welcome`` that is imported when it is needed.
    """
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}, line {node.lineno}: say it from the top, sockproto.…"
            assert node.module is not None
            for each in node.names:
                name = f"{node.module}.{each.name}"
                yield node.lineno, name if name in MODULES else node.module
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.fullmatch(r"(sockproto[\w.]*):\w+", node.value)
            if named:
                yield node.lineno, named[1]


def floor_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_module_has_its_floor():
    assert {floor_of(module) for module in MODULES} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module):
    own = FLOORS.index(floor_of(module))

    up = [
        f"line {line} imports {name}, which is above {module}"
        for line, name in imports(module)
        if name.split(".")[0] == "sockproto" and FLOORS.index(floor_of(name)) > own
    ]

    assert up == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {}
    for module in MODULES:
        graph[module] = {
            package
            for _, name in imports(module)
            for package in packages_of(name)
            # To import a module is to import the packages around it, except those we are in.
            if package in MODULES
            and (package == name or not f"{module}.".startswith(f"{package}."))
        }

    # It raises CycleError, and shows the circle.
    assert set(TopologicalSorter(graph).static_order()) == set(MODULES)


def packages_of(name: str) -> list[str]:
    """``a.b.c`` and what is around it: ``a``, ``a.b``, ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


@pytest.mark.parametrize("floor", WITHOUT_TWISTED)
def test_what_decides_knows_the_standard_library_only(floor):
    foreign = [
        f"{module}, line {line}: {name}"
        for module in MODULES
        if floor_of(module) == floor
        for line, name in imports(module)
        if name.split(".")[0]
        not in {"sockproto", *sys.stdlib_module_names, *BORROWED.get(module, ())}
    ]

    assert foreign == []


def test_what_a_handshake_borrows_is_imported_where_it_is_needed():
    at_the_top = [
        f"{module}: {name}"
        for module, borrowed in BORROWED.items()
        for node in ast.parse(MODULES[module].read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (getattr(node, "module", None), *(each.name for each in node.names))
        if name and name.split(".")[0] in borrowed
    ]

    assert at_the_top == []


def test_the_built_in_handshakes_know_the_core_only():
    known = {
        floor_of(name)
        for module in MODULES
        if floor_of(module) == "handshakes"
        for _, name in imports(module)
        if name.split(".")[0] == "sockproto"
    }

    # One another, too: what several of them need has a file of its own.
    assert known == {"core", "handshakes"}


# In a fresh interpreter.


def loaded(*statements: str) -> set[str]:
    """The modules that are loaded after these statements in an interpreter of their own."""
    ask = "import sys; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*statements, ask])],
        # Also where sockproto is not installed.
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def of_twisted(names: set[str]) -> set[str]:
    # The .pth file of a namespace package makes an empty "twisted" at the start of the interpreter.
    return {name for name in names if name.startswith("twisted.")}


def test_to_import_sockproto_imports_nothing_of_twisted():
    names = loaded("import sockproto")

    assert of_twisted(names) == set()
    assert {name for name in names if name.startswith("sockproto")} == {
        "sockproto",
        "sockproto._lazy",
        "sockproto._version",
    }


def test_a_handshake_is_written_and_tried_without_twisted():
    names = loaded(
        "from sockproto import Accept, Exchange, Limits, Peer, Reject",
        "from sockproto.handshakes.passphrase import Passphrase",
        "from sockproto.testing import converse, every_cut, rehearse",
        "assert converse(Passphrase(b'sesame').serve, b'sesame\\n') == Accept(b'OK\\n')",
    )

    assert of_twisted(names) == set()


@pytest.mark.parametrize("package", [sockproto, sockproto.testing], ids=lambda each: each.__name__)
def test_no_public_name_brings_a_reactor_along(package):
    name = package.__name__

    names = loaded(f"import {name}", *(f"{name}.{each}" for each in package.__all__))

    assert "twisted.internet.reactor" not in names


def test_no_module_brings_a_reactor_along():
    names = loaded(*(f"import {module}" for module in MODULES))

    assert set(MODULES) <= names
    assert "twisted.internet.reactor" not in names


def test_twistd_learns_of_us_without_a_reactor_and_without_us():
    names = loaded("import twisted.plugins.sockproto_dropin")

    assert "twisted.internet.reactor" not in names
    assert not any(name.startswith("sockproto") for name in names)


def test_twistd_reads_our_command_line_without_a_reactor():
    names = loaded(
        "from twisted.plugins.sockproto_dropin import sockserver",
        "sockserver.options().parseOptions([])",
        "sockserver.makeService",
    )

    assert "sockproto.service.maker" in names
    assert "twisted.internet.reactor" not in names
