import os

import pytest

from benchmarks.load import values
from benchmarks.machine import machine
from benchmarks.process import Cores, resident
from benchmarks.workshop import Unavailable, half_client_hello


def test_the_resident_set_is_read_in_bytes():
    text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:                1234 kB\nPss: 12 kB\n"

    assert resident(text) == 1234 * 1024


def test_a_text_without_a_resident_set_is_refused():
    with pytest.raises(ValueError) as caught:
        resident("Pss: 12 kB\n")

    assert str(caught.value) == "no Rss in smaps_rollup"


def test_server_and_load_get_a_core_each():
    cores = Cores([5, 3, 4])

    assert (cores.server, cores.load) == (3, 4)


def test_one_core_is_not_enough():
    with pytest.raises(Unavailable) as caught:
        Cores([0])

    assert str(caught.value) == "there is one core; server and load need one each"


def test_a_result_is_read_by_name():
    assert values("done=20000 failed=0 p99=12.5") == {"done": 20000, "failed": 0, "p99": 12.5}


def test_half_a_client_hello_is_a_record_that_is_cut():
    half = half_client_hello()

    assert half[0] == 22
    assert len(half) < 5 + int.from_bytes(half[3:5], "big")


def test_the_machine_is_named_by_its_processor():
    shown = machine("processor : 0\nmodel name\t: A  Processor\nprocessor : 1\n")

    assert shown.startswith(f"A Processor, {len(os.sched_getaffinity(0))} cores, ")
