"""Where a setting comes from, and what is said of a file that is wrong."""

import pytest

from sockproto import ConfigurationError
from sockproto.service.settings import Setting, gather

NAMES = ("listen", "session", "backlog", "idle-timeout")
REPEATABLE = ("listen", "session")


@pytest.fixture
def write(tmp_path):
    """Write a file of settings."""

    def write(text: str | bytes) -> str:
        file = tmp_path / "door.toml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(file)

    return write


def find(given=None, environment=None, file=None):
    return gather(NAMES, REPEATABLE, given or {}, environment or {}, file)


def complaint(file):
    with pytest.raises(ConfigurationError) as caught:
        find(file=file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_nobody_has_set_is_missing():
    assert find() == {}


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(write):
    file = write('backlog = 1\nidle-timeout = "1s"\nlisten = "tcp:1"\n')
    environment = {"SOCKSERVER_BACKLOG": "2", "SOCKSERVER_IDLE_TIMEOUT": "2s"}
    given = {"backlog": ["3"]}

    assert find(given, environment, file) == {
        "backlog": Setting(("3",), "--backlog", on_command_line=True),
        "idle-timeout": Setting(("2s",), "SOCKSERVER_IDLE_TIMEOUT"),
        "listen": Setting(("tcp:1",), f"listen in {file}"),
    }


def test_what_may_be_repeated_comes_from_one_place_only(write):
    file = write('listen = ["tcp:3", "tcp:4"]')
    given, environment = {"listen": ["tcp:1"]}, {"SOCKSERVER_LISTEN": "tcp:2"}

    assert find(given, environment, file)["listen"].values == ("tcp:1",)
    assert find({}, environment, file)["listen"].values == ("tcp:2",)
    assert find({}, {}, file)["listen"].values == ("tcp:3", "tcp:4")


def test_what_may_be_repeated_is_separated_by_blanks_in_the_environment():
    found = find(environment={"SOCKSERVER_LISTEN": " tcp:1  unix:/run/door\n"})

    assert found == {"listen": Setting(("tcp:1", "unix:/run/door"), "SOCKSERVER_LISTEN")}


def test_what_may_have_blanks_in_it_is_given_once_in_the_environment():
    found = gather(
        NAMES,
        REPEATABLE,
        {},
        {"SOCKSERVER_LISTEN": "tcp:1 tcp:2", "SOCKSERVER_SESSION": "two words"},
        None,
        unparted=["session"],
    )

    assert found["listen"].values == ("tcp:1", "tcp:2")
    assert found["session"].values == ("two words",)


def test_what_may_not_be_repeated_keeps_its_blanks():
    found = find(environment={"SOCKSERVER_BACKLOG": " 1 2 "})

    assert found["backlog"].values == (" 1 2 ",)


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_variable_that_is_blank_sets_nothing(blank):
    assert find(environment={"SOCKSERVER_LISTEN": blank, "SOCKSERVER_BACKLOG": blank}) == {}


def test_a_variable_that_is_no_option_is_nothing_to_us():
    assert find(environment={"SOCKSERVER_PORT": "tcp://10.0.0.1:80", "BACKLOG": "2"}) == {}


def test_numbers_in_a_file_are_texts_to_us(write):
    file = write("backlog = 16\nidle-timeout = 2.5\n")

    found = find(file=file)

    assert found["backlog"].values == ("16",)
    assert found["idle-timeout"].values == ("2.5",)


def test_an_empty_list_is_a_setting_without_values(write):
    assert find(file=write("session = []"))["session"].values == ()


def test_a_file_that_is_not_there_is_told(tmp_path):
    file = f"{tmp_path}/none.toml"

    assert complaint(file) == f"cannot read {file}: No such file or directory"
    assert complaint(str(tmp_path)) == f"cannot read {tmp_path}: Is a directory"


def test_a_file_that_is_not_toml_is_told_with_the_place(write):
    file = write("listen = tcp:8001\n")

    assert complaint(file).startswith(f"{file} is not TOML: Invalid value (at line 1")


@pytest.mark.parametrize("text", ["listen = " + "[" * 5000, "backlog = " + "{a=" * 5000])
def test_a_file_that_is_nested_without_end_is_told(write, text):
    file = write(text)

    assert complaint(file) == f"{file} is nested too deeply; no option is a table"


def test_a_number_that_python_cannot_write_is_told(write):
    file = write("backlog = 0x" + "f" * 4000)

    assert complaint(file) == f"backlog in {file} has too many digits"


def test_a_file_that_is_not_text_is_told(write):
    file = write(b"\xff")

    assert complaint(file).startswith(f"{file} is not TOML: 'utf-8' codec can't decode")


def test_a_key_that_is_no_option_is_told(write):
    file = write("idle_timeout = 5")

    assert complaint(file) == f"{file} sets idle_timeout, which is no option; see --help"


@pytest.mark.parametrize("value", ["true", '["1"]', "1979-05-27", "{ a = 1 }"])
def test_a_value_of_another_type_is_told(write, value):
    file = write(f"backlog = {value}")

    assert complaint(file) == (f"backlog in {file} is no setting: expected a text or a number")


@pytest.mark.parametrize("value", ["true", "[true]", '["tcp:1", ["tcp:2"]]', "{ a = 1 }"])
def test_a_list_of_anything_but_texts_is_told(write, value):
    file = write(f"listen = {value}")

    assert complaint(file) == (
        f"listen in {file} is no setting: expected a text or a list of texts"
    )


@pytest.mark.parametrize(("value", "text"), [("true", "on"), ("false", "off"), ('"on"', "on")])
def test_a_switch_may_be_a_truth_value_in_the_file(write, value, text):
    file = write(f"dry-run = {value}")

    found = gather(["dry-run"], [], {}, {}, file, ["dry-run"])

    assert found["dry-run"].values == (text,)
