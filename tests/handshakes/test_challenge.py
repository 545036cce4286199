import json
import os
from functools import partial
from pathlib import Path

import pytest
from docs.pages import DOCS, rows_of

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    LimitExceeded,
    PeerDisconnected,
    PeerFacts,
    Reject,
    TlsFacts,
)
from sockproto.handshakes._keys import entry_for
from sockproto.handshakes.chain import Chain
from sockproto.handshakes.challenge import LABEL, NONCE_BYTES, PROOF_BYTES, Challenge
from sockproto.handshakes.negotiate import Negotiate
from sockproto.handshakes.passphrase import Passphrase
from sockproto.plugins import handshake_blueprint
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/challenge.json").read_text())
KEYS = "\n".join(VECTORS["keys"]).encode()
NONCES = {side: bytes.fromhex(VECTORS[f"{side}_nonce"]) for side in ("client", "server")}

CONVERSATIONS = {each["case"]: each for each in VECTORS["conversations"]}
GOOD = CONVERSATIONS["the current key"]
GREETING = bytes.fromhex(VECTORS["greeting"])

every_conversation = pytest.mark.parametrize("vector", CONVERSATIONS.values(), ids=CONVERSATIONS)

WRONG = Reject(b"NO\n", reason="wrong proof for the id 2026-11")
REFUSED = Reject(
    reason="the server does not know key 2026-11, or has another one under that id; "
    "if TLS ends in between, at a proxy of yours, set bind=off on both ends"
)
IMPOSTOR = Reject(
    reason="the server said yes, and did not prove that it has key 2026-11: it is not the one that "
    "you mean; find out who answers at this address before you trust it"
)
NOT_BINDABLE = (
    "TLS tells nothing that both ends could be bound to (RFC 5929); have the server's certificate "
    "signed with ECDSA or RSA, or set bind=off on both ends"
)

TLS = PeerFacts(tls=TlsFacts(end_point=b"\x01" * 32))
OTHER_TLS = PeerFacts(tls=TlsFacts(end_point=b"\x02" * 32))
UNBOUND = PeerFacts(tls=TlsFacts())


def octets(vector, *names):
    return [bytes.fromhex(vector[name]) for name in names]


def facts_of(vector):
    [end_point] = octets(vector, "end_point")
    return PeerFacts(tls=TlsFacts(end_point=end_point) if end_point else None)


def server(keys=KEYS):
    """The server's side, with the nonce of the vectors."""
    return partial(Challenge(keys).serve, nonce=NONCES["server"])


def client(keys=KEYS, **options):
    """The client's side, likewise."""
    return partial(Challenge(keys, **options).connect, nonce=NONCES["client"])


def flipped(data, bit):
    """The same with one bit turned."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Sides:
    """The server's side of one, and the client's of another."""

    def __init__(self, server, client):
        self.serve, self.connect = server.serve, client.connect


def strangers(served, connected):
    """Both sides, with other keys each."""
    return Sides(Challenge(served), Challenge(connected))


def accepted(met):
    """Whether both are content."""
    return isinstance(met.server, Accept) and isinstance(met.client, Accept)


# The bytes


@every_conversation
def test_a_server_answers_as_the_vectors_say(vector):
    said, answer = octets(vector, "client", "server")

    story = play(server(), [said], facts=facts_of(vector))

    assert story.sent == GREETING + answer
    assert type(story.outcome) is {"accepted": Accept, "rejected": Reject}[vector["verdict"]]
    assert getattr(story.outcome, "identity", None) == vector["identity"]
    assert said == said[: 1 + said[0]] + story.unread


@every_conversation
def test_how_the_network_cuts_does_not_matter(vector):
    [said] = octets(vector, "client")
    outcome = play(server(), [said], facts=facts_of(vector)).outcome

    assert converse(server(), said, facts=facts_of(vector)) == outcome


@pytest.mark.parametrize(
    "vector",
    [each for each in CONVERSATIONS.values() if each["verdict"] == "accepted"],
    ids=lambda each: each["case"],
)
def test_a_client_says_what_the_vectors_say(vector):
    said, answer = octets(vector, "client", "server")
    side, facts = client(id=vector["identity"]), facts_of(vector)

    story = play(side, [GREETING + answer + b"hello"], facts=facts)

    assert story == Story(Accept(), sent=said[: 1 + said[0]], unread=b"hello")
    assert converse(side, GREETING + answer, facts=facts) == Accept()


def test_the_page_has_the_bytes_of_the_vectors():
    page = DOCS / "reference/handshakes/challenge.rst"

    assert rows_of(page, 2) == [
        [each[key] for key in ("case", "client", "server", "verdict")]
        for each in CONVERSATIONS.values()
    ]
    text = page.read_text()
    told = [*VECTORS["keys"], *(VECTORS[each] for each in ("greeting", "client_nonce"))]
    told.append(CONVERSATIONS["under TLS"]["end_point"])
    assert [each for each in told if f"``{each}``" not in text] == []


# The server's side


def test_the_server_speaks_first():
    assert play(server(), [], eof=False).sent == GREETING == LABEL + NONCES["server"]


def test_a_stranger_hears_nothing_that_a_key_has_a_part_in():
    stranger = entry_for("mallory", bytes(32)).encode()
    said = b"\x38" + bytes(NONCE_BYTES) + b"2026-12" + bytes(PROOF_BYTES + 1)

    # One server has the key of the vectors, and the other does not.
    assert [play(server(keys), [said]).sent for keys in (KEYS, stranger)] == [
        GREETING + b"NO\n"
    ] * 2


def test_the_server_has_another_nonce_each_time():
    greetings = [play(Challenge(KEYS).serve, [], eof=False).sent for _ in range(100)]

    assert {each[: len(LABEL)] for each in greetings} == {LABEL}
    assert len({each[len(LABEL) :] for each in greetings}) == 100


def test_whatever_is_changed_on_its_way_to_the_server_it_is_not_accepted():
    [said] = octets(GOOD, "client")

    # All but the length: with another one, something else is missing or left over.
    for bit in range(8, len(said) * 8):
        story = play(server(), [flipped(said, bit)])
        assert isinstance(story.outcome, Reject)
        assert story.sent == GREETING + b"NO\n"


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 31, 32, 33, 47, 48, 49, 54, 56, 112])
def test_another_length_is_no_way_in(length):
    [said] = octets(GOOD, "client")
    said = bytes([length]) + said[1:]

    for each in (said, said + bytes(112), said[: 1 + length].ljust(1 + length, b"\0")):
        assert not isinstance(play(server(), [each]).outcome, Accept)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("another first byte", "wrong proof for the id 2026-11"),
        ("another last byte", "wrong proof for the id 2026-11"),
        ("that of another key", "wrong proof for the id 2026-05"),
        ("the server's", "wrong proof for the id 2026-11"),
        ("for what the server asked another time", "wrong proof for the id 2026-11"),
        ("under TLS, made without", "wrong proof for the id 2026-11"),
        ("an id that nobody has", "no key here has the id 2026-12"),
        ("no id", "no key here has the id "),
        ("no proof", "no key here has the id "),
    ],
)
def test_the_log_says_what_was_wrong_and_the_client_is_not_told(case, reason):
    vector = CONVERSATIONS[case]

    story = play(server(), octets(vector, "client"), facts=facts_of(vector))

    assert story == Story(Reject(b"NO\n", reason=reason), sent=GREETING + b"NO\n")


def test_a_key_under_another_id_is_worth_nothing_even_where_both_are_looked_up_alike():
    # Two ids that one place of the table would hold; the second is none of the server's.
    key = bytes(32)
    serving = Challenge(entry_for("id-1231", key).encode())
    connecting = Challenge(entry_for("id-1412", key).encode())

    assert serving._keys().find(b"id-1412").id == b"id-1231"
    assert rehearse(Sides(serving, connecting)).server == Reject(
        b"NO\n", reason="wrong proof for the id id-1412"
    )


def test_an_id_that_is_no_text_is_shown_escaped():
    said = b"\x32" + bytes(NONCE_BYTES) + b"\xff\n" + bytes(PROOF_BYTES)

    assert play(server(), [said]).outcome == Reject(
        b"NO\n", reason="no key here has the id \\xff\n"
    )


def test_an_id_that_is_too_long_is_over_the_limit():
    with pytest.raises(LimitExceeded) as caught:
        converse(server(), b"q")

    assert str(caught.value) == "peer sent more than 112 bytes, the limit set by max_bytes"


def test_the_longest_id_is_an_id():
    keys = entry_for("x" * 64, bytes(32)).encode()

    assert rehearse(Challenge(keys)).server.identity == "x" * 64


def test_a_client_that_leaves_early_is_a_disconnect_wherever_it_does():
    [said] = octets(GOOD, "client")

    for size in range(len(said)):
        assert isinstance(play(server(), [said[:size]]).outcome, PeerDisconnected)


# The client's side


@pytest.mark.parametrize("greeting", [b"SSH-2.0-x\r\n", b"OK\n", b"sockproto challenge 2\n"])
def test_the_client_recognises_a_stranger_and_shows_it_nothing(greeting):
    reject = Reject(reason="that is not a challenge server")

    assert converse(client(), greeting) == reject
    assert play(client(), [greeting]).sent == b""


@pytest.mark.parametrize("answer", [b"ON\n", b"\0" * 32, b"OK\r", b"NO "])
def test_an_answer_that_is_neither_yes_nor_no_is_a_strangers(answer):
    reject = Reject(reason="that is not a challenge server")

    assert converse(client(), GREETING + answer) == reject


def test_the_client_speaks_when_it_has_been_asked():
    for size in range(len(GREETING)):
        assert play(client(), [GREETING[:size]], eof=False).sent == b""

    assert play(client(), [GREETING], eof=False).sent == octets(GOOD, "client")[0]


def test_the_client_has_another_nonce_each_time():
    said = [play(Challenge(KEYS).connect, [GREETING], eof=False).sent for _ in range(100)]

    assert len({each[1 : 1 + NONCE_BYTES] for each in said}) == 100


def test_the_client_goes_on_only_with_a_server_that_has_proved_itself():
    said, answer = octets(GOOD, "client", "server")

    for size in range(len(answer)):
        assert play(client(), [GREETING + answer[:size]], eof=False).outcome is None
    for bit in range(len(b"OK\n") * 8, len(answer) * 8):
        story = play(client(), [GREETING + flipped(answer, bit)])
        assert story == Story(IMPOSTOR, sent=said)


def test_whatever_is_changed_on_its_way_to_the_client_one_of_both_notices():
    for bit in range(len(GREETING) * 8):
        serving, connecting = Exchange(server()), Exchange(client())
        connecting.receive_data(flipped(serving.data_to_send(), bit))
        serving.receive_data(connecting.data_to_send())
        assert not isinstance(serving.outcome, Accept)


def test_a_refusal_is_told_apart_from_an_impostor():
    refused, impostor = b"NO\n", b"OK\n" + bytes(PROOF_BYTES)

    assert converse(client(), GREETING + refused) == REFUSED
    assert converse(client(), GREETING + impostor) == IMPOSTOR


def test_a_refusal_is_one_even_with_the_right_proof_behind_it():
    [answer] = octets(GOOD, "server")

    assert play(client(), [GREETING + b"NO\n" + answer[3:]]).outcome == REFUSED


def test_a_server_that_leaves_early_is_a_disconnect_wherever_it_does():
    whole = GREETING + octets(GOOD, "server")[0]

    for size in range(len(whole)):
        assert isinstance(play(client(), [whole[:size]]).outcome, PeerDisconnected)


def test_the_client_may_use_another_key_than_the_first():
    assert rehearse(Challenge(KEYS, id="2026-05")).server.identity == "2026-05"


# Both


def test_both_sides_agree():
    met = rehearse(Challenge(KEYS))

    assert met.server == Accept(met.server_sent[len(GREETING) :], identity="2026-11")
    assert met.client == Accept()


def test_both_sides_agree_that_they_have_different_keys():
    met = rehearse(strangers(KEYS, entry_for("2026-11", bytes(32)).encode()))

    assert (met.server, met.client) == (WRONG, REFUSED)


def test_it_may_follow_another_handshake_and_be_followed_by_one():
    word, name = Passphrase(b"sesame"), Negotiate("echo")
    on_offer = PeerFacts(sessions=("echo",))
    met = rehearse(Chain(word, Challenge(KEYS), name), server_facts=on_offer)

    assert met.server == Accept(b"OK echo\n", identity="2026-11", session="echo")
    assert isinstance(met.client, Accept)


# Under TLS


def test_under_tls_both_are_bound_to_the_certificate_that_the_server_shows():
    met = rehearse(Challenge(KEYS), server_facts=TLS, client_facts=TLS)

    assert accepted(met)


@pytest.mark.parametrize(
    ("hers", "his"), [(TLS, OTHER_TLS), (TLS, None), (None, TLS)], ids=["other", "none", "only"]
)
def test_whoever_stands_in_between_can_pass_nothing_on(hers, his):
    met = rehearse(Challenge(KEYS), server_facts=hers, client_facts=his)

    assert (met.server, met.client) == (WRONG, REFUSED)


@pytest.mark.parametrize(("hers", "his"), [(None, TLS), (TLS, OTHER_TLS), (UNBOUND, UNBOUND)])
def test_a_proxy_of_ours_may_stand_in_between_if_both_are_told(hers, his):
    met = rehearse(Challenge(KEYS, bind=False), server_facts=hers, client_facts=his)

    assert accepted(met)


def test_what_cannot_be_bound_is_refused_on_both_sides_at_once():
    assert rehearse(Challenge(KEYS), server_facts=UNBOUND, client_facts=UNBOUND) == Rehearsal(
        server=Reject(b"NO\n", reason=NOT_BINDABLE),
        client=Reject(reason=NOT_BINDABLE),
        server_sent=b"NO\n",
        client_unread=b"NO\n",
    )


def test_a_client_that_would_not_be_bound_hears_why_a_server_that_must_be_refuses():
    sides = Sides(Challenge(KEYS), Challenge(KEYS, bind=False))
    met = rehearse(sides, server_facts=UNBOUND, client_facts=UNBOUND)

    assert (met.server, met.client) == (
        Reject(b"NO\n", reason=NOT_BINDABLE),
        Reject(reason=NOT_BINDABLE),
    )
    assert met.client_sent == b""


# What was said once is worth nothing


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_of_recorded_conversations_none_is_accepted_again(count):
    challenge = Challenge(KEYS)
    recorded = []
    for _ in range(count):
        serving, connecting = Exchange(challenge.serve), Exchange(challenge.connect)
        connecting.receive_data(serving.data_to_send())
        said = connecting.data_to_send()
        serving.receive_data(said)
        assert isinstance(serving.outcome, Accept)
        recorded.append(said)

    for said in recorded:
        again = Exchange(challenge.serve)
        again.receive_data(said)
        assert again.outcome == WRONG


def test_what_a_server_has_said_once_convinces_no_client_again():
    challenge = Challenge(KEYS)
    met = rehearse(challenge)

    assert play(challenge.connect, [met.server_sent]).outcome == IMPOSTOR


def test_a_proof_is_not_taken_for_one_of_the_other_side():
    # Both nonces are the same, and chosen by whoever reflects: all but the role is the same.
    nonce, challenge = bytes(NONCE_BYTES), Challenge(KEYS)
    serve, connect = partial(challenge.serve, nonce=nonce), partial(challenge.connect, nonce=nonce)
    greeting = LABEL + nonce
    said = play(connect, [greeting]).sent
    answer = play(serve, [said]).sent.removeprefix(greeting)
    asked, proof, other = said[:-PROOF_BYTES], said[-PROOF_BYTES:], answer.removeprefix(b"OK\n")

    assert isinstance(play(serve, [asked + proof]).outcome, Accept)
    assert play(connect, [greeting + b"OK\n" + other]).outcome == Accept()
    assert play(serve, [asked + other]).outcome == WRONG
    assert play(connect, [greeting + b"OK\n" + proof]).outcome == IMPOSTOR


def test_a_server_does_not_answer_for_a_client():
    # Whoever wants in lets one connection answer with what another one of the server has said.
    challenge = Challenge(KEYS)
    first, second = Exchange(challenge.serve), Exchange(challenge.serve)
    honest = Exchange(challenge.connect)
    honest.receive_data(second.data_to_send())
    second.receive_data(said := honest.data_to_send())
    proof = second.data_to_send()[-PROOF_BYTES:]

    first.receive_data(said[:-PROOF_BYTES] + proof)

    assert first.outcome == WRONG


def test_a_client_does_not_answer_for_a_server():
    # A false server asks one honest client what the other has asked it.
    challenge = Challenge(KEYS)
    first = Exchange(partial(challenge.connect, nonce=NONCES["client"]))
    second = Exchange(partial(challenge.connect, nonce=NONCES["client"]))
    for each in (first, second):
        each.receive_data(GREETING)
    proof = second.data_to_send()[-PROOF_BYTES:]

    first.receive_data(b"OK\n" + proof)

    assert first.outcome == IMPOSTOR


# Where the keys come from


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "door.keys"
    path.write_bytes(KEYS)
    return path


def test_keys_are_rotated_by_their_ids_without_a_refusal(file):
    new = entry_for("2027-05", bytes(range(32)))
    server, behind, ahead = Challenge(file=file), Challenge(KEYS), Challenge(new.encode())

    replace(file, f"{new}\n{KEYS.decode()}")
    assert accepted(rehearse(Sides(server, behind)))
    assert accepted(rehearse(Sides(server, ahead)))

    replace(file, new)
    assert isinstance(rehearse(Sides(server, behind)).client, Reject)
    assert accepted(rehearse(Sides(server, ahead)))


def replace(file, text):
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def test_a_client_takes_up_a_new_key_from_its_file(file):
    client = Challenge(file=file)

    replace(file, entry_for("2027-05", bytes(32)))

    assert rehearse(client).server.identity == "2027-05"


def test_a_file_that_is_broken_changes_nothing_and_the_log_says_so_once(file, caplog):
    server, stranger = Challenge(file=file), Challenge(entry_for("mallory", bytes(32)).encode())

    replace(file, "no key\n")
    assert accepted(rehearse(server))
    met = rehearse(Sides(server, stranger))

    trouble = (
        f"{file}: line 1 has no key in base64; "
        "write it with: sockproto keygen --file FILE; what it said before still holds"
    )
    assert [each.message for each in caplog.records] == [trouble]
    assert met.server == Reject(b"NO\n", reason=f"no key here has the id mallory ({trouble})")


def test_keys_may_come_from_the_environment(monkeypatch):
    monkeypatch.setitem(os.environb, b"SOCKPROTO_TEST_KEYS", KEYS)

    assert accepted(rehearse(Challenge(env="SOCKPROTO_TEST_KEYS")))


WRITE = "write it with: sockproto keygen --file FILE"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "challenge needs one of its keys, file=PATH or env=NAME"),
        ({"keys": KEYS, "env": "HOME"}, "challenge needs one of its keys, file=PATH or env=NAME"),
        ({"env": "SOCKPROTO_NO_KEYS"}, "challenge finds no variable SOCKPROTO_NO_KEYS in the "),
        (
            {"keys": b"sesame"},
            f"challenge cannot use its keys: line 1 is not a name and a value; {WRITE}",
        ),
        ({"env": "SOCKPROTO_BAD"}, "challenge cannot use the variable SOCKPROTO_BAD: line 1 "),
        ({"keys": KEYS, "id": "x"}, "challenge cannot use its keys: no key has the id x, which "),
    ],
)
def test_a_mistake_is_one_line_without_the_keys(arguments, said, monkeypatch):
    monkeypatch.setenv("SOCKPROTO_BAD", "sesame")

    with pytest.raises(ConfigurationError) as caught:
        Challenge(**arguments)

    assert str(caught.value).startswith(said)
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_server_starts_only_with_a_file_that_makes_sense(file):
    with pytest.raises(ConfigurationError) as caught:
        Challenge(file=file, id="2027-05")

    assert str(caught.value) == (
        f"{file}: no key has the id 2027-05, which id= asks for; 2026-11, 2026-05 do"
    )


# Nobody sees them


def test_keys_are_never_shown():
    challenge = Challenge(KEYS)
    exchange = Exchange(challenge.connect)
    met = rehearse(strangers(KEYS, entry_for("2026-11", bytes(32)).encode()))

    shown = repr(challenge) + repr(exchange) + str(exchange.waiting_on) + repr(met)
    for line in VECTORS["keys"]:
        assert line.split()[1] not in shown


def test_keys_on_the_command_line_are_ones_that_others_see():
    assert handshake_blueprint("challenge:x y").exposed == ("keys",)
    assert handshake_blueprint("challenge:file=door.keys").exposed == ()
