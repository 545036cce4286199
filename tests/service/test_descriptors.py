"""As many descriptors as we may have."""

from __future__ import annotations

import resource

import pytest

from sockproto.service.descriptors import raise_descriptor_limit


@pytest.fixture(autouse=True)
def limits():
    """Limits that are as before when the test is over."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_soft_limit_becomes_the_hard_one(limits):
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    assert raise_descriptor_limit() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


@pytest.mark.parametrize("trouble", [OSError, ValueError])
def test_where_the_hard_limit_cannot_be_had_the_soft_one_stays(limits, monkeypatch, trouble):
    _, hard = limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    def refuse(which, pair):
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refuse)
        assert raise_descriptor_limit() == 256
