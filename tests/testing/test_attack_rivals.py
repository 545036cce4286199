"""Servers that are attacked for comparison: what they need, and how they are set up."""

from __future__ import annotations

import shlex

import pytest

from sockproto.core.errors import ConfigurationError
from sockproto.testing.attack.compare import machine
from sockproto.testing.attack.household import own_memory
from sockproto.testing.attack.rivals import RIVALS, Places, Rival, chosen


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path, 4001, 4002)


@pytest.mark.parametrize("name", [each for each in RIVALS if each != "sshd"])
def test_a_rival_listens_on_loopback_at_the_port_it_is_given(places, name):
    command = RIVALS[name].prepare(places)

    written = " ".join(each.read_text() for each in places.folder.iterdir())
    assert "4001" in f"{command} {written}"
    assert shlex.split(command)


@pytest.mark.parametrize(("name", "line"), [("haproxy", "bind"), ("nginx", "listen")])
def test_a_rival_that_passes_on_has_a_server_behind_it(places, name, line):
    RIVALS[name].prepare(places)

    [file] = places.folder.iterdir()
    assert f"{line} 127.0.0.1:4001" in file.read_text()
    assert "127.0.0.1:4002" in file.read_text()
    assert RIVALS[name].passes_on


def test_what_a_rival_needs_and_does_not_find_is_named():
    def never(places: Places) -> list[str]:
        raise NotImplementedError

    assert Rival("x", "", never, needs=("no-such-program",)).missing() == "no-such-program"
    assert Rival("x", "", never, needs=("sh", "/dev/null")).missing() is None


def test_by_default_all_of_them_are_chosen():
    assert chosen("") == list(RIVALS.values())
    assert [each.name for each in chosen("nginx, Twisted")] == ["nginx", "Twisted"]


def test_a_rival_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match=r"^no server 'apache'; there are sockproto,"):
        chosen("apache")


def test_memory_is_what_a_process_has_to_itself():
    rollup = (
        "55d0-7ffd ---p 00000000 00:00 0  [rollup]\n"
        "Rss:     9000 kB\nPss:     5000 kB\nPss_Anon: 3000 kB\nPss_File: 1990 kB\n"
        "Pss_Shmem:  10 kB\n"
    )

    assert own_memory(rollup) == 3010 * 1024


def test_the_machine_is_told_in_one_line():
    assert machine("model name\t: A Processor\n").startswith("A Processor, ")
