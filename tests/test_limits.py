from dataclasses import FrozenInstanceError, fields
from math import inf, nan

import pytest

from sockproto.limits import DEFAULT_LIMITS, Limits


def test_the_defaults_are_those_of_the_lesson_and_of_conch():
    assert Limits() == DEFAULT_LIMITS
    assert {each.name: each.default for each in fields(Limits)} == {
        "idle_timeout": 5.0,
        "handshake_timeout": 10.0,
        "close_timeout": 5.0,
        "max_handshake_bytes": 4096,
        "max_tls_bytes": 16384,
        "session_idle_timeout": inf,
        "session_lifetime": inf,
    }


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
def test_every_limit_has_a_unit_and_a_reason(field):
    assert field.metadata["unit"] == ("bytes" if field.name.startswith("max_") else "seconds")
    assert field.metadata["why"]


@pytest.mark.parametrize("field", fields(Limits), ids=lambda field: field.name)
@pytest.mark.parametrize("value", [0, -1, nan])
def test_a_limit_must_be_above_zero(field, value):
    with pytest.raises(ValueError) as raised:
        Limits(**{field.name: value})
    unit = field.metadata["unit"]
    assert str(raised.value) == f"{field.name} must be above 0 {unit}, got {value}"


def test_infinity_turns_a_timeout_off():
    assert Limits(idle_timeout=inf).idle_timeout == inf


def test_limits_are_a_frozen_value():
    limits = Limits(idle_timeout=30)

    assert limits == Limits(idle_timeout=30)
    assert hash(limits) == hash(Limits(idle_timeout=30))
    with pytest.raises(FrozenInstanceError):
        limits.idle_timeout = 1


def test_limits_are_named_never_counted():
    with pytest.raises(TypeError):
        Limits(5.0)
