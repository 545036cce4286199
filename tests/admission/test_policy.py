import pytest

from sockproto.admission.policy import DEFAULT_POLICY, Policy
from sockproto.core.errors import ConfigurationError


def test_the_defaults_are_those_of_the_service():
    policy = Policy()

    assert policy == DEFAULT_POLICY
    assert (str(policy.allow), str(policy.deny)) == ("0.0.0.0/0,::/0", "none")
    assert str(policy.exempt) == "127.0.0.0/8,::1/128"
    assert (str(policy.max_pending), str(policy.max_pending_tls)) == ("256:30:1024", "64:30:256")
    assert policy.max_pending_per_source == 16
    assert policy.max_connections is policy.max_connections_per_source is None
    assert policy.max_rate_per_source is None
    assert policy.penalties is not None
    assert (policy.inet_prefix, policy.inet6_prefix) == (32, 64)


def test_a_policy_is_a_value():
    assert Policy(max_connections=5) == Policy(max_connections=5)
    assert len({Policy(), Policy(), Policy(max_connections=5)}) == 2
    with pytest.raises(AttributeError):
        DEFAULT_POLICY.max_connections = 5


@pytest.mark.parametrize(
    "name",
    ["max_connections", "max_pending_per_source", "max_connections_per_source", "max_sources"],
)
def test_a_count_that_lets_nobody_in_is_an_error(name):
    with pytest.raises(ConfigurationError) as caught:
        Policy(**{name: 0})

    assert str(caught.value) == f"{name} must be at least 1, got 0"
