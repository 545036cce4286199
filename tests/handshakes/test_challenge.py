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
from sockproto.handshakes.challenge import LABEL, NONCE_BYTES, Challenge
from sockproto.plugins import handshake_blueprint
from sockproto.testing import Rehearsal, Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/challenge.json").read_text())
KEYS = "\n".join(VECTORS["keys"]).encode()
NONCES = {side: bytes.fromhex(VECTORS[f"{side}_nonce"]) for side in ("client", "server")}

CONVERSATIONS = {each["case"]: each for each in VECTORS["conversations"]}
GOOD = CONVERSATIONS["the current key"]

every_conversation = pytest.mark.parametrize("vector", CONVERSATIONS.values(), ids=CONVERSATIONS)

WRONG = Reject(b"NO\n", reason="wrong proof for the id 2026-11")

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


def not_convinced(id):
    """What a client does about a server that cannot prove that it has its key."""
    return Reject(
        bytes(32),
        reason=f"the server does not know key {id}, or has another one under that id; "
        "if TLS ends in between, at a proxy of yours, set bind=off on both ends",
    )


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
    hello, proof, answer = octets(vector, "hello", "proof", "answer")
    facts = facts_of(vector)

    story = play(server(), [hello, proof], facts=facts)

    if vector["server"] is None:
        assert story.sent.startswith(LABEL + NONCES["server"])
        assert len(story.sent) == 70 + len(answer)
    else:
        assert story.sent == octets(vector, "server")[0] + answer
    assert story.sent.endswith(answer)
    assert type(story.outcome) is {"accepted": Accept, "rejected": Reject}[vector["verdict"]]
    assert getattr(story.outcome, "identity", None) == vector["identity"]
    assert story.unread == proof[32:]


@every_conversation
def test_how_the_network_cuts_does_not_matter(vector):
    said = b"".join(octets(vector, "hello", "proof"))
    outcome = play(server(), [said], facts=facts_of(vector)).outcome

    # Each server has a key of its own for who has none.
    same = partial(Challenge(KEYS).serve, nonce=NONCES["server"])
    assert converse(same, said, facts=facts_of(vector)) == outcome


@pytest.mark.parametrize(
    "vector",
    [each for each in CONVERSATIONS.values() if each["verdict"] == "accepted"],
    ids=lambda each: each["case"],
)
def test_a_client_says_what_the_vectors_say(vector):
    hello, greeting, proof = octets(vector, "hello", "server", "proof")
    side, facts = client(id=vector["identity"]), facts_of(vector)

    story = play(side, [greeting, b"hello"], facts=facts)

    assert story == Story(Accept(proof[:32]), sent=hello + proof[:32], unread=b"hello")
    assert converse(side, greeting, facts=facts) == Accept(proof[:32])


def test_the_page_has_the_bytes_of_the_vectors():
    page = DOCS / "reference/handshakes/challenge.rst"

    assert rows_of(page, 2) == [
        [each[key] or "" for key in ("case", "hello", "server", "proof", "answer", "verdict")]
        for each in CONVERSATIONS.values()
    ]
    text = page.read_text()
    told = [*VECTORS["keys"], VECTORS["client_nonce"], VECTORS["server_nonce"]]
    told.append(CONVERSATIONS["under TLS"]["end_point"])
    assert [each for each in told if f"``{each}``" not in text] == []


# The server's side


def test_the_server_says_nothing_until_it_is_asked():
    assert play(Challenge(KEYS).serve, [], eof=False).sent == b""


def test_the_server_has_another_nonce_each_time():
    [hello] = octets(GOOD, "hello")

    greetings = [play(Challenge(KEYS).serve, [hello]).sent for _ in range(100)]

    assert {each[: len(LABEL)] for each in greetings} == {LABEL}
    assert len({each[len(LABEL) : len(LABEL) + NONCE_BYTES] for each in greetings}) == 100


def test_whatever_is_changed_on_its_way_to_the_server_it_is_not_accepted():
    hello, proof = octets(GOOD, "hello", "proof")
    said = hello + proof

    # All but the length: with another one, something else is missing or left over.
    for bit in range(8, len(said) * 8):
        changed = bytearray(said)
        changed[bit // 8] ^= 1 << bit % 8
        story = play(server(), [bytes(changed)])
        assert isinstance(story.outcome, Reject)
        assert story.sent.endswith(b"NO\n")


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 22, 24, 80])
def test_another_length_is_no_way_in(length):
    hello, proof = octets(GOOD, "hello", "proof")
    said = bytes([length]) + hello[1:] + proof

    for each in (said, said + bytes(80), said.ljust(length + 33, b"\0")):
        assert not isinstance(play(server(), [each]).outcome, Accept)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("another first byte", "wrong proof for the id 2026-11"),
        ("another last byte", "wrong proof for the id 2026-11"),
        ("zeros, since the server's is wrong", "wrong proof for the id 2026-11"),
        ("an id that nobody has", "no key here has the id 2026-12"),
        ("that of another key", "wrong proof for the id 2026-05"),
        ("under TLS, made without", "wrong proof for the id 2026-11"),
    ],
)
def test_the_log_says_what_was_wrong_and_the_client_is_not_told(case, reason):
    vector = CONVERSATIONS[case]

    story = play(server(), octets(vector, "hello", "proof"), facts=facts_of(vector))

    assert story.outcome == Reject(b"NO\n", reason=reason)
    assert len(story.sent) == 73


def test_a_key_under_another_id_is_worth_nothing_even_where_both_are_looked_up_alike():
    # Two ids that one place of the table would hold; the second is none of the server's.
    key = bytes(32)
    serving = entry_for("id-1231", key).encode()
    connecting = entry_for("id-1412", key).encode()

    class Stubborn:
        serve = Challenge(serving).serve

        async def connect(self, peer):
            found = Challenge(connecting)._keys().current
            peer.send(bytes([NONCE_BYTES + 7]) + bytes(NONCE_BYTES) + found.id)
            greeting = await peer.receive_exactly(70)
            theirs = greeting[len(LABEL) : -32]
            proved = theirs + bytes(NONCE_BYTES) + b"\x07" + found.id + b"\0"
            assert greeting[-32:] == found.server.digest(proved)
            return Accept(found.client.digest(proved))

    assert rehearse(Stubborn()).server == Reject(b"NO\n", reason="wrong proof for the id id-1412")


def test_an_id_that_is_no_text_is_shown_escaped():
    said = b"\x12" + bytes(NONCE_BYTES) + b"\xff\n" + bytes(32)

    assert play(server(), [said]).outcome == Reject(
        b"NO\n", reason="no key here has the id \\xff\n"
    )


def test_an_id_that_is_too_long_is_over_the_limit():
    with pytest.raises(LimitExceeded) as caught:
        converse(server(), b"Q")

    assert str(caught.value) == "peer sent more than 80 bytes, the limit set by max_bytes"


def test_the_longest_id_is_an_id():
    keys = entry_for("x" * 64, bytes(32)).encode()

    assert rehearse(Challenge(keys)).server == Accept(identity="x" * 64)


def test_a_client_that_leaves_early_is_a_disconnect_wherever_it_does():
    said = b"".join(octets(GOOD, "hello", "proof"))

    for size in range(len(said)):
        assert isinstance(play(server(), [said[:size]]).outcome, PeerDisconnected)


# The client's side


@pytest.mark.parametrize("greeting", [b"SSH-2.0-x\r\n", b"NO\n", b"sockproto challenge 2\n"])
def test_the_client_recognises_a_stranger(greeting):
    assert converse(client(), greeting) == Reject(reason="that is not a challenge server")


def test_the_client_shows_its_proof_only_to_a_server_that_proves_itself():
    hello, greeting = octets(GOOD, "hello", "server")

    for bit in range(len(LABEL) * 8, len(greeting) * 8):
        changed = bytearray(greeting)
        changed[bit // 8] ^= 1 << bit % 8
        story = play(client(), [bytes(changed)])
        assert story == Story(not_convinced("2026-11"), sent=hello + bytes(32))


def test_a_server_that_leaves_early_is_a_disconnect_wherever_it_does():
    [greeting] = octets(GOOD, "server")

    for size in range(len(greeting)):
        assert isinstance(play(client(), [greeting[:size]]).outcome, PeerDisconnected)


def test_the_client_may_use_another_key_than_the_first():
    assert rehearse(Challenge(KEYS, id="2026-05")).server == Accept(identity="2026-05")


# Both


def test_both_sides_agree():
    met = rehearse(Challenge(KEYS))

    assert met.server == Accept(identity="2026-11")
    assert met.client == Accept(met.client_sent[-32:])


def test_both_sides_agree_that_they_have_different_keys():
    met = rehearse(strangers(KEYS, entry_for("2026-11", bytes(32)).encode()))

    assert (met.server, met.client) == (WRONG, not_convinced("2026-11"))


# Under TLS


def test_under_tls_both_are_bound_to_the_certificate_that_the_server_shows():
    met = rehearse(Challenge(KEYS), server_facts=TLS, client_facts=TLS)

    assert accepted(met)


@pytest.mark.parametrize(
    ("hers", "his"), [(TLS, OTHER_TLS), (TLS, None), (None, TLS)], ids=["other", "none", "only"]
)
def test_whoever_stands_in_between_can_pass_nothing_on(hers, his):
    met = rehearse(Challenge(KEYS), server_facts=hers, client_facts=his)

    assert (met.server, met.client) == (WRONG, not_convinced("2026-11"))


@pytest.mark.parametrize(("hers", "his"), [(None, TLS), (TLS, OTHER_TLS), (UNBOUND, UNBOUND)])
def test_a_proxy_of_ours_may_stand_in_between_if_both_are_told(hers, his):
    met = rehearse(Challenge(KEYS, bind=False), server_facts=hers, client_facts=his)

    assert accepted(met)


def test_what_cannot_be_bound_is_refused_on_both_sides():
    reason = (
        "TLS tells nothing that both ends could be bound to (RFC 5929); have the server's "
        "certificate signed with ECDSA or RSA, or set bind=off on both ends"
    )

    assert rehearse(Challenge(KEYS), server_facts=UNBOUND, client_facts=UNBOUND) == Rehearsal(
        server=Reject(b"NO\n", reason=reason),
        client=Reject(reason=reason),
        server_sent=b"NO\n",
        client_unread=b"NO\n",
    )


# What was said once is worth nothing


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_of_recorded_conversations_none_is_accepted_again(count):
    challenge = Challenge(KEYS)
    recorded = []
    for _ in range(count):
        serving, connecting = Exchange(challenge.serve), Exchange(challenge.connect)
        hello = connecting.data_to_send()
        serving.receive_data(hello)
        connecting.receive_data(serving.data_to_send())
        proof = connecting.data_to_send()
        serving.receive_data(proof)
        assert isinstance(serving.outcome, Accept)
        recorded.append((hello, proof))

    for hello, proof in recorded:
        again = Exchange(challenge.serve)
        again.receive_data(hello)
        again.receive_data(proof)
        assert again.outcome == WRONG


def test_what_a_server_has_said_once_convinces_no_client_again():
    challenge = Challenge(KEYS)
    met = rehearse(challenge)

    assert play(challenge.connect, [met.server_sent]).outcome == not_convinced("2026-11")


def test_a_proof_is_not_taken_for_one_of_the_other_side():
    # Both nonces are the same, and chosen by whoever reflects: all but the role is the same.
    nonce, challenge = bytes(NONCE_BYTES), Challenge(KEYS)
    serve, connect = partial(challenge.serve, nonce=nonce), partial(challenge.connect, nonce=nonce)
    hello = Exchange(connect).data_to_send()
    serving = Exchange(serve)
    serving.receive_data(hello)
    greeting = serving.data_to_send()
    proof = play(connect, [greeting]).sent[-32:]

    assert play(serve, [hello + proof]).outcome == Accept(identity="2026-11")
    assert play(serve, [hello + greeting[-32:]]).outcome == WRONG
    assert play(connect, [greeting[:-32] + proof]).outcome == not_convinced("2026-11")


def test_a_server_does_not_answer_for_a_client():
    # Whoever wants in is asked by one connection, and has a second one of the same server answer.
    challenge = Challenge(KEYS)
    first, second = Exchange(challenge.serve), Exchange(challenge.serve)
    first.receive_data(b"\x17" + bytes(NONCE_BYTES) + b"2026-11")
    asked = first.data_to_send()[len(LABEL) : len(LABEL) + NONCE_BYTES]
    second.receive_data(b"\x17" + asked + b"2026-11")

    first.receive_data(second.data_to_send()[-32:])

    assert first.outcome == WRONG


def test_a_client_does_not_answer_for_another():
    # A false server has an honest client answer what the true server asks.
    challenge = Challenge(KEYS)
    serving, connecting = Exchange(challenge.serve), Exchange(challenge.connect)
    connecting.data_to_send()
    serving.receive_data(b"\x17" + bytes(NONCE_BYTES) + b"2026-11")
    connecting.receive_data(serving.data_to_send())

    serving.receive_data(connecting.data_to_send())

    assert (serving.outcome, connecting.outcome) == (WRONG, not_convinced("2026-11"))


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
