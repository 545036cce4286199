"""
The options that say who may start, and how many.

An option is one line of the table here. The service's parser, its help, ``sockproto explain`` and
the table in the reference are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sockproto.admission.early_drop import EarlyDrop
from sockproto.admission.networks import Networks
from sockproto.admission.policy import DEFAULT_POLICY, Policy
from sockproto.admission.sources import Sources
from sockproto.service.units import rate, switch, whole

OFF = "off"
UNIX = "unix"

SPARE_DESCRIPTORS = 64
"""For whatever else a process opens: its listeners, its logs, its files."""

MAX_GOODBYE = 1024
"""Bytes that somebody who is refused at a cap can be told: what any socket takes at once."""

Fields: TypeAlias = dict[str, Any]
"""What an option says, as fields of a :class:`~sockproto.admission.policy.Policy`."""


@dataclass(frozen=True, slots=True)
class PolicyOption:
    """
    An option that says something about who may start.

    Attributes:
        read: Makes fields of a policy from its text.
        default: What it is if nobody says anything, in words or as one would say it.
        help: What it says.
        why: Why this is the default.
    """

    read: Callable[[str], Fields]
    default: str
    help: str
    why: str


def max_connections_for(descriptors: int) -> int | None:
    """
    How many connections a process lets in that may have so many descriptors; None for no bound.

    Half of them, because a session may need one more, as those that forward do; and some less, for
    whatever else is open. Where there are very few, a quarter is left.
    """
    if descriptors < 0:
        # RLIM_INFINITY, as the resource module has it.
        return None
    return max(1, descriptors // 4, descriptors // 2 - SPARE_DESCRIPTORS)


def policy_of(fields: Mapping[str, Any], descriptors: int) -> Policy:
    """
    Make a policy of what the options say.

    Args:
        fields: What :attr:`PolicyOption.read` has made of them.
        descriptors: How many the process may have.
    """
    return Policy(**{"max_connections": max_connections_for(descriptors), **fields})


def _field(name: str, read: Callable[[str], Any], *, off: bool = True) -> Callable[[str], Fields]:
    return lambda text: {name: None if off and text == OFF else read(text)}


def _networks(text: str) -> Networks:
    if not text.strip():
        # Perhaps "--allow=$NETWORKS", and no NETWORKS.
        raise ValueError("it is empty; name networks like 10.0.0.0/8,192.0.2.1, or write none")
    return Networks.parse(text)


def _exempt(text: str) -> Fields:
    pieces = [each.strip() for each in text.split(",")]
    networks = [each for each in pieces if each != UNIX]
    exempt = _networks(",".join(networks)) if networks else Networks()
    return {"exempt": exempt, "exempt_unix": UNIX in pieces}


def _penalties(text: str) -> Fields:
    return {"penalties": DEFAULT_POLICY.penalties if switch(text) else None}


def _prefixes(text: str) -> Fields:
    match = re.fullmatch(r"([0-9]{1,3}),([0-9]{1,3})", text)
    if match is None:
        raise ValueError(f"{text!r} is not a prefix length of IPv4 and one of IPv6, like 32,64")
    inet, inet6 = map(int, match.groups())
    # It says what is wrong with them.
    Sources(inet, inet6)
    return {"inet_prefix": inet, "inet6_prefix": inet6}


def _on_limit(text: str) -> Fields:
    if text in ("wait", "close"):
        return {"wait": text == "wait"}
    word, _, said = text.partition(":")
    if word != "reply" or not said:
        raise ValueError(f"{text!r} is not wait, close or reply:TEXT")
    goodbye = said.encode("utf-8", "surrogateescape")
    if len(goodbye) > MAX_GOODBYE:
        raise ValueError(f"a reply of {len(goodbye)} bytes is too long; give at most {MAX_GOODBYE}")
    return {"wait": False, "goodbye": goodbye}


POLICY_OPTIONS: Mapping[str, PolicyOption] = {
    "max-connections": PolicyOption(
        _field("max_connections", whole),
        f"half the descriptor limit - {SPARE_DESCRIPTORS}",
        "The most connections, whatever they do; or off.",
        "a process without descriptors serves nobody, and a session that forwards needs two",
    ),
    "max-connections-per-source": PolicyOption(
        _field("max_connections_per_source", whole),
        OFF,
        "The most connections that one source may have.",
        "many honest peers may share the address of their router",
    ),
    "max-pending": PolicyOption(
        _field("max_pending", EarlyDrop.parse),
        str(DEFAULT_POLICY.max_pending),
        "Handshakes under way, START:RATE:FULL as MaxStartups of sshd; or off.",
        "strangers are to compete with each other, and not with those who are in",
    ),
    "max-pending-tls": PolicyOption(
        _field("max_pending_tls", EarlyDrop.parse),
        str(DEFAULT_POLICY.max_pending_tls),
        "The same where TLS comes first. They are counted apart.",
        "a TLS handshake costs many times as much",
    ),
    "max-pending-per-source": PolicyOption(
        _field("max_pending_per_source", whole),
        str(DEFAULT_POLICY.max_pending_per_source),
        "The most handshakes that one source may have under way; or off.",
        "one address must not take all the places",
    ),
    "max-rate-per-source": PolicyOption(
        _field("max_rate_per_source", rate),
        OFF,
        "How often one source is let in, like 50/10s.",
        "only you know how often your peers come",
    ),
    "source-prefix": PolicyOption(
        _prefixes,
        f"{DEFAULT_POLICY.inet_prefix},{DEFAULT_POLICY.inet6_prefix}",
        "How many leading bits of an IPv4 and of an IPv6 address make a source.",
        "one host of IPv6 commands a whole /64",
    ),
    "allow": PolicyOption(
        _field("allow", _networks, off=False),
        "all",
        "Who may come in: 10.0.0.0/8,192.0.2.1. The most specific network has the say.",
        "the handshake decides who is who",
    ),
    "deny": PolicyOption(
        _field("deny", _networks, off=False),
        str(DEFAULT_POLICY.deny),
        "Who may not.",
        "the handshake decides who is who",
    ),
    "penalties": PolicyOption(
        _penalties,
        "on",
        "Whether a source is kept out for a while when its handshakes end badly: on or off.",
        "whoever guesses words or holds slots should not be free to go on",
    ),
    "exempt": PolicyOption(
        _exempt,
        f"{DEFAULT_POLICY.exempt},{UNIX}",
        "Who is neither limited per source nor penalised: networks, and unix; or none.",
        "a proxy or a tunnel on this machine brings everybody's connections",
    ),
    "on-limit": PolicyOption(
        _on_limit,
        "wait",
        "At a cap: wait in the kernel's queue, close, or reply:TEXT.",
        "who waits is served when somebody goes, and does not have to try again",
    ),
}
"""What each option says, in the order in which they are listed."""
