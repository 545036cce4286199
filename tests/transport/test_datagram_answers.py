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


@pytest.mark.parametrize("address", [FAR, FAR6, NEAR, NEAR6])
def test_who_sends_from_our_own_port_has_one_answer_a_second(address):
    answers = Answers(1, port=4000)
    had = "it sends from port 4000, as another server like this one would, and has had its answer"

    assert given(answers, address, 2) == ["", f"{had}, 1/1s"]
    # Who asks again after a second, as our client does, is served.
    assert given(answers, address, 2, now=1001.0) == ["", f"{had}, 1/1s"]


@pytest.mark.parametrize(
    "other",
    [
        Address("inet", "192.0.2.1", 4001),
        Address("inet", "192.0.2.2", 4000),
        Address("inet6", "2001:db8::2", 4000),
    ],
)
def test_at_our_own_port_each_address_is_by_itself(other):
    answers = Answers(1, port=4000)
    for address in (FAR, FAR6):
        given(answers, address, 3)

    assert given(answers, other) == [""]


def test_who_is_at_our_own_port_has_no_more_answers_than_the_rest_of_its_source():
    answers = Answers(1, port=4000)
    given(answers, Address("inet", "192.0.2.1", 4001), 10)

    assert given(answers, FAR) == [HAD]


@pytest.mark.parametrize("address", [FAR, FAR6])
@pytest.mark.parametrize("step", [0.1, 0.15, 1.0])
def test_of_those_who_go_on_without_a_pause_one_answer_in_a_hundred_is_withheld(address, step):
    answers = Answers(1)
    said = [answers.refuse(address, b"1234", b"yes", 1000 + step * each) for each in range(1000)]

    withheld = [number for number, each in enumerate(said) if each]
    # Two servers are silent after the first of them; who asks again is answered.
    assert 5 < len(withheld) < 10
    assert {said[each + 1] for each in withheld} == {""}
    assert said[withheld[0]] == (
        "it has had 100 answers without a pause, and one is withheld in case it is a server too; a "
        "client asks again"
    )


@pytest.mark.parametrize("address", [FAR, FAR6])
def test_those_who_pause_for_ten_seconds_have_all_their_answers(address):
    answers = Answers(1)

    for number in range(500):
        assert given(answers, address, now=1000 + 10 * number) == [""]


def test_on_this_machine_where_nobody_can_be_forged_nothing_is_withheld():
    answers = Answers(1)

    for number in range(500):
        for address in (NEAR, NEAR6, UNIX):
            assert given(answers, address, now=1000 + 0.2 * number) == [""]


def test_two_servers_that_are_far_from_each_other_fall_silent():
    one, other = Answers(1), Answers(1)
    here, there = FAR, Address("inet", "198.51.100.1", 4001)
    now, exchanged = 1000.0, 0
    # A quarter of a second each way: they never come near the rate.
    while not one.refuse(there, b"b", b"a", now) and not other.refuse(here, b"a", b"b", now + 0.25):
        now += 0.5
        exchanged += 2
        assert exchanged < 500


def test_a_unix_socket_has_no_port_to_be_taken_for_a_server():
    assert given(Answers(1), UNIX, 2) == ["", ""]


def test_what_is_refused_does_not_count():
    answers = Answers(1)
    for _ in range(100):
        assert answers.refuse(FAR, b"1", b"12", 1000)

    assert given(answers, FAR, 10) == [""] * 10
