"""Times, sizes, numbers and rates as operators write them."""

from __future__ import annotations

import re
from decimal import Decimal
from math import inf

from sockproto.admission.rate import Rate

MOST = 2**31 - 1
"""What a C ``int`` holds; ``listen(2)`` takes one."""

_TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


def seconds(text: str) -> float:
    """
    Read a time: ``5``, ``500ms``, ``10s``, ``2m``, ``1h``, or ``off`` for no limit.

    Raises:
        ValueError: If it is none, or not above zero.
    """
    if text == "off":
        return inf
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)", text)
    value = float(match[1]) * _TIMES[match[2]] if match else 0.0
    # A number with too many digits is infinite to float(), and would turn the limit off.
    if not 0 < value < inf:
        raise ValueError(f"{text!r} is not a time above zero; write it like 5, 500ms, 10s or 2m")
    return value


def size(text: str) -> int:
    """
    Read a number of bytes: ``4096``, ``16k``, ``1m``; a ``k`` is 1024.

    Raises:
        ValueError: If it is none, or not above zero.
    """
    match = re.fullmatch(r"([0-9]{1,15})([kmg]|)", text.lower())
    value = int(match[1]) * _SIZES[match[2]] if match else 0
    if not value:
        raise ValueError(f"{text!r} is not a size above zero; write it like 4096, 16k or 1m")
    return value


def whole(text: str) -> int:
    """
    Read a number of things, at least one, and no more than the kernel can count.

    Raises:
        ValueError: If it is none.
    """
    value = int(text) if re.fullmatch(r"[0-9]{1,10}", text) else 0
    if not 0 < value <= MOST:
        raise ValueError(f"{text!r} is not a whole number from 1 to {MOST}")
    return value


def rate(text: str) -> Rate:
    """
    Read how many may come in how long: ``50/10s``, ``1/500ms``.

    Raises:
        ValueError: If it is none.
    """
    count, slash, time = text.partition("/")
    try:
        if slash and time != "off":
            return Rate(whole(count), seconds(time))
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a rate; write it like 50/10s")


def switch(text: str) -> bool:
    """
    Read ``on`` or ``off``.

    Raises:
        ValueError: If it is neither.
    """
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is not on or off")
    return text == "on"


def show_seconds(value: float) -> str:
    """Write a time as :func:`seconds` reads it."""
    if value == inf:
        return "off"
    # Not :g alone, which writes a million as 1e+06.
    number = Decimal(f"{value:.15g}")
    return f"{number.normalize():f}s" if value >= 1 else f"{number.scaleb(3).normalize():f}ms"


def show_size(value: float) -> str:
    """Write a size as :func:`size` reads it."""
    for unit in ("g", "m", "k"):
        if value >= _SIZES[unit] and value % _SIZES[unit] == 0:
            return f"{int(value) // _SIZES[unit]}{unit}"
    return str(value)
