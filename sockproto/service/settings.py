"""
Where a setting comes from: the command line, the environment, a file, in this order.

All three say it in the same words: ``--idle-timeout 5s``, ``SOCKSERVER_IDLE_TIMEOUT=5s``, and
``idle-timeout = "5s"`` in a TOML file. What may be given more than once is a list in the file, and
separated by blanks in the environment, unless a blank may be part of one; what is on or off may be
a truth value in the file. Each value keeps its source, for the message if it is wrong.

What is no option is an error in the file, and nothing to us in the environment, where it may be
somebody else's: Kubernetes sets ``SOCKSERVER_PORT`` if a service has that name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sockproto.core.errors import ConfigurationError

PREFIX = "SOCKSERVER_"


@dataclass(frozen=True, slots=True)
class Setting:
    """
    What an option is set to.

    Attributes:
        values: The texts; one, unless the option may be repeated.
        source: Who said so, in the words that the operator used.
        on_command_line: Whether every user of the machine can read it there.
    """

    values: tuple[str, ...]
    source: str
    on_command_line: bool = False


def gather(
    names: Sequence[str],
    repeatable: Sequence[str],
    given: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    file: str | None,
    switches: Sequence[str] = (),
    unparted: Sequence[str] = (),
) -> dict[str, Setting]:
    """
    Find what each option is set to, and by whom.

    Args:
        names: The options, as on the command line: ``idle-timeout``.
        repeatable: Those that may be given more than once.
        given: What stands on the command line.
        environment: The process's environment.
        file: The TOML file, or None.
        switches: The options that are ``on`` or ``off``.
        unparted: Those of the repeatable ones that the environment can give only once.

    Returns:
        The settings by name; one that nobody has set is missing.

    Raises:
        ConfigurationError: If the file cannot be read, or says something that is no option.
    """
    settings = {}
    read = {} if file is None else _read(file, names, repeatable, switches)
    for name in names:
        variable = PREFIX + name.upper().replace("-", "_")
        if name in given:
            settings[name] = Setting(tuple(given[name]), f"--{name}", on_command_line=True)
        elif environment.get(variable, "").strip():
            text = environment[variable]
            parted = name in repeatable and name not in unparted
            values = text.split() if parted else [text]
            settings[name] = Setting(tuple(values), variable)
        elif name in read:
            settings[name] = Setting(read[name], f"{name} in {file}")
    return settings


def _read(
    file: str, names: Sequence[str], repeatable: Sequence[str], switches: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    try:
        with open(file, "rb") as opened:
            table = tomllib.load(opened)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{file} is nested too deeply; no option is a table") from None
    read = {}
    for key, value in table.items():
        if key not in names:
            raise ConfigurationError(f"{file} sets {key}, which is no option; see --help")
        if key in switches and isinstance(value, bool):
            value = "on" if value else "off"
        values = value if isinstance(value, list) and key in repeatable else [value]
        if not all(type(each) in (str, int, float) for each in values):
            expected = "a text or a list of texts" if key in repeatable else "a text or a number"
            raise ConfigurationError(f"{key} in {file} is no setting: expected {expected}")
        try:
            read[key] = tuple(str(each) for each in values)
        except ValueError:
            # From some thousand digits on, Python writes no int.
            raise ConfigurationError(f"{key} in {file} has too many digits") from None
    return read
