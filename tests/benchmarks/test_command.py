import pytest

from benchmarks import __main__ as command
from benchmarks.__main__ import CANNOT, main
from benchmarks.bench import Settings


@pytest.fixture
def refused(capsys):
    """What the command says when it refuses its arguments."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == CANNOT
        return capsys.readouterr().err

    return run


def test_an_unknown_section_is_named_with_those_that_exist(refused):
    assert refused("handshake") == (
        "benchmarks: no section 'handshake'; "
        "there are handshakes, memory, pending, handover, forward, latency\n"
    )


def test_an_unknown_contender_is_named_with_those_that_exist(refused):
    said = refused("--only", "c,libuv")

    assert said.startswith("benchmarks: no contender 'libuv'; there are c, go, node, uvloop, ")
    assert said.count("\n") == 1


def test_a_missing_compiler_is_named(refused, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")

    assert refused("handshakes") == "benchmarks: gcc is not in the PATH\n"


def test_a_missing_plotting_library_is_named(refused, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)

    assert refused("--plot", "cost.svg") == (
        "benchmarks: --plot needs matplotlib; install it with pip install '.[bench]'\n"
    )


def test_a_picture_of_an_unknown_kind_is_refused_before_anything_is_measured(refused):
    assert refused("--plot", "cost.doc") == (
        "benchmarks: cannot draw cost.doc; name a .svg, .png, .pdf file\n"
    )


def test_a_picture_of_nothing_is_refused_before_anything_is_measured(refused):
    assert refused("latency", "--plot", "cost.svg") == (
        "benchmarks: --plot draws handshakes and memory; measure one of them\n"
    )


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_a_missing_folder_is_named_before_anything_is_measured(refused, tmp_path, option):
    file = tmp_path / "missing" / "cost.svg"

    assert refused(option, str(file)) == (
        f"benchmarks: no folder {tmp_path / 'missing'} to write cost.svg into\n"
    )


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_count_is_a_whole_number_above_zero(refused, count):
    said = refused(f"--rounds={count}").splitlines()[-1]

    assert said.endswith(f"argument --rounds: expected a whole number above 0, got '{count}'")


def test_a_quick_run_measures_less_of_everything():
    quick, whole = Settings().quick(), Settings()

    assert quick.rounds == 1
    assert quick.handshakes < whole.handshakes
    assert quick.silent < whole.silent
    assert quick.pending == whole.pending[:2]
    assert quick.mebibytes < whole.mebibytes
