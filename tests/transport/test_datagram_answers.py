import pytest

from sockproto.core.facts import Address
from sockproto.transport.datagram_answers import Answers

FAR = Address("inet", "192.0.2.1", 4000)
FAR6 = Address("inet6", "2001:db8::1", 4000)
NEAR = Address("inet", "127.0.0.1", 4000)
NEAR6 = Address("inet6", "::1", 4000)
UNIX = Address("unix", path="/run/client")

HAD = "its source has had its answers, 10/1s"


def given(answers, address, times=1, now=1000.0):
    """What is said to so many answers."""
    return [answers.refuse(address, b"1234", b"yes", now) for _ in range(times)]


@pytest.mark.parametrize("address", [FAR, FAR6])
def test_a_stranger_is_not_answered_with_more_than_it_has_sent(address):
    answers = Answers(1)

    assert answers.refuse(address, b"1234", b"1235", 1000) == ""
    assert answers.refuse(address, b"1234", b"12345", 1000) == (
        "the answer has 5 bytes and the question 4, a ratio above the 1 of max_amplification"
    )


def test_the_operator_may_say_how_much_more():
    answers = Answers(2.5)

    assert answers.refuse(FAR, b"1234", b"1234567890", 1000) == ""
    assert answers.refuse(FAR, b"1234", b"12345678901", 1000).endswith(
        "a ratio above the 2.5 of max_amplification"
    )


@pytest.mark.parametrize("address", [NEAR, NEAR6, UNIX])
def test_nobody_outside_can_claim_to_be_on_this_machine(address):
    assert Answers(1).refuse(address, b"1", b"welcome to server!", 1000) == ""


@pytest.mark.parametrize("address", [FAR, FAR6, NEAR, NEAR6, UNIX])
def test_one_source_has_ten_answers_and_then_ten_a_second(address):
    answers = Answers(1)

    assert given(answers, address, 12) == [""] * 10 + [HAD] * 2
    assert given(answers, address, 2, now=1000.1) == ["", HAD]
    assert given(answers, address, 11, now=1002) == [""] * 10 + [HAD]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (FAR, Address("inet", "192.0.2.1", 4001), True),
        (FAR, Address("inet", "192.0.2.2", 4000), False),
        (FAR6, Address("inet6", "2001:db8::2", 4001), True),
        (FAR6, Address("inet6", "2001:db8:0:1::1", 4000), False),
        (NEAR, Address("inet", "127.0.0.1", 4001), False),
        (NEAR6, Address("inet6", "::1", 4001), False),
        (UNIX, Address("unix", path="/run/other"), False),
    ],
)
def test_a_source_is_an_address_or_on_this_machine_a_program(one, other, same):
    answers = Answers(1)
    given(answers, one, 10)

    assert given(answers, other) == [HAD if same else ""]


@pytest.mark.parametrize("address", [FAR, NEAR, UNIX])
def test_nobody_is_sent_what_it_has_sent(address):
    assert Answers(1).refuse(address, b"hello", b"hello", 1000) == (
        "the answer would be the question, which two servers would exchange for ever"
    )


def test_what_is_refused_does_not_count():
    answers = Answers(1)
    for _ in range(100):
        assert answers.refuse(FAR, b"1", b"12", 1000)

    assert given(answers, FAR, 10) == [""] * 10
