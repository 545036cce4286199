from dataclasses import FrozenInstanceError

import pytest

from sockproto import Accept, Reject


def test_an_accept_says_nothing_unless_told():
    assert Accept() == Accept(reply=b"", identity=None, session=None, result=None)


def test_a_reject_says_nothing_unless_told():
    assert Reject() == Reject(reply=b"", reason="rejected")


def test_the_reply_comes_first():
    assert (Accept(b"OK\n").reply, Reject(b"NO\n").reply) == (b"OK\n", b"NO\n")


def test_an_accept_is_never_a_reject():
    assert Accept(b"x") != Reject(b"x")


@pytest.mark.parametrize("outcome", [Accept(), Reject()])
def test_an_outcome_is_frozen(outcome):
    with pytest.raises(FrozenInstanceError):
        outcome.reply = b"changed"


@pytest.mark.parametrize("decide", [Accept, Reject])
@pytest.mark.parametrize(
    ("reply", "given"), [("OK", "str"), (bytearray(b"OK"), "bytearray"), (None, "NoneType")]
)
def test_a_reply_that_is_not_bytes_is_refused_at_once(decide, reply, given):
    with pytest.raises(TypeError) as caught:
        decide(reply)

    assert str(caught.value) == f"reply must be bytes, got {given}"


@pytest.mark.parametrize("identity", [b"ann", 7])
def test_an_identity_is_text(identity):
    with pytest.raises(TypeError) as caught:
        Accept(identity=identity)

    given = type(identity).__name__
    assert str(caught.value) == f"identity must be str, got {given}: decode it first"


@pytest.mark.parametrize("reason", [b"wrong word", None])
def test_a_reason_is_text(reason):
    with pytest.raises(TypeError) as caught:
        Reject(reason=reason)

    given = type(reason).__name__
    assert str(caught.value) == f"reason must be str, got {given}: decode it first"
