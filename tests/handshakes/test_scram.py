import json
import sys
from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from hmac import digest
from pathlib import Path

import pytest
from docs.pages import DOCS, rows_of

from sockproto import (
    Accept,
    ConfigurationError,
    Exchange,
    LimitExceeded,
    PeerDisconnected,
    Reject,
)
from sockproto.core.facts import PeerFacts, TlsFacts
from sockproto.handshakes._scram_users import KEY_BYTES, Users, Verifier, parse_users, with_user
from sockproto.handshakes.scram import MAX_MESSAGE, Scram
from sockproto.plugins import handshake_from_string
from sockproto.testing import Story, converse, play, rehearse

VECTORS = json.loads((Path(__file__).parent / "vectors/scram.json").read_text())
CONVERSATIONS = VECTORS["conversations"]
EXAMPLE = CONVERSATIONS[0]
"""That of RFC 7677 section 3."""

BOUND = PeerFacts(tls=TlsFacts(end_point=b"e" * 32))
REFUSED = b"e=other-error\n"
STRANGER = "that is not a scram client"


@pytest.fixture
def users(tmp_path) -> Path:
    file = tmp_path / "users"
    file.write_text("".join(f"{line}\n" for line in VECTORS["users"]))
    return file


def server(users, plus=None):
    return Scram(users, plus=plus, nonce=lambda: VECTORS["nonce"]["server"])


def client(user="user", password=b"pencil", plus=None):
    nonce = VECTORS["nonce"]["client"]
    return Scram(user=user, password=password, plus=plus, nonce=lambda: nonce)


def both(users, *, user="user", password=b"pencil", server_plus=None, client_plus=None):
    class Both:
        serve = server(users, server_plus).serve
        connect = client(user, password, client_plus).connect

    return Both()


def facts(end_point):
    return end_point and PeerFacts(tls=TlsFacts(end_point=bytes.fromhex(end_point)))


def said_by(who, conversation):
    return b"".join(f"{line}\n".encode() for by, line in conversation["lines"] if by == who)


# The vectors


@pytest.mark.parametrize("vector", CONVERSATIONS, ids=lambda each: each["case"])
def test_the_bytes_are_those_of_the_vectors(vector, users):
    ends = vector["end_point"]

    story = rehearse(
        both(
            users,
            user=vector["user"],
            password=vector["password"].encode(),
            server_plus=vector["plus"]["server"],
            client_plus=vector["plus"]["client"],
        ),
        server_facts=facts(ends["server"]),
        client_facts=facts(ends["client"]),
    )

    assert story.server_sent == said_by("server", vector)
    assert story.client_sent == said_by("client", vector)
    if vector["verdict"] == "accepted":
        last = story.server_sent.splitlines(keepends=True)[-1]
        assert story.server == Accept(last, identity=vector["identity"])
        assert story.client == Accept()
    else:
        assert story.server == Reject(REFUSED, reason=vector["log"])
        assert story.client == Reject(reason=vector["told"])


def test_the_example_of_the_rfc_is_cut_in_every_way(users):
    served = converse(server(users).serve, said_by("client", EXAMPLE))
    connected = converse(client().connect, said_by("server", EXAMPLE))

    assert served == Accept(EXAMPLE["lines"][-1][1].encode() + b"\n", identity="user")
    assert connected == Accept()


def test_the_page_has_the_lines_of_the_vectors():
    [bound] = [each for each in CONVERSATIONS if each["case"] == "over TLS, the channel is bound"]
    told = rows_of(DOCS / "reference/handshakes/scram.rst")

    assert told == [
        [by, line, f"{line}\n".encode().hex(" ")] for by, line in EXAMPLE["lines"] + bound["lines"]
    ]


def test_the_page_has_the_failures_of_the_vectors():
    told = {tuple(row[:2]) for row in rows_of(DOCS / "reference/handshakes/scram.rst", 1)}

    assert told >= {
        (each["log"].replace("for user", "for ann"), each["told"])
        for each in CONVERSATIONS
        if each["verdict"] == "rejected"
    }


# The server's side


def test_what_follows_the_proof_is_left_for_the_session(users):
    story = play(server(users).serve, [said_by("client", EXAMPLE) + b"hello"])

    assert story.unread == b"hello"
    assert story.sent == said_by("server", EXAMPLE)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"GET / HTTP/1.1\r",
        b"n,,",
        b"n,,n=user",
        b"n,,r=abc,n=user",
        b"n,,n=us=er,r=abc",
        b"n,,n=,r=abc",
        b"n,a=admin,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,m=must,n=user,r=abc",
        b"n,,n=user,r=a\x7fc",
        b"n,,n=us\x01er,r=abc",
        b"n,,n=\xff,r=abc",
    ],
)
def test_what_is_no_first_message_is_refused_as_everything_is(users, first):
    assert converse(server(users).serve, first + b"\n") == Reject(REFUSED, reason=STRANGER)


@pytest.mark.parametrize("final", [b"", b"c=biws", b"c=biws,r=other,p=AAAA", b"\xff", b"x" * 99])
def test_what_is_no_final_message_is_refused_as_everything_is(users, final):
    first = EXAMPLE["lines"][0][1].encode()

    outcome = converse(server(users).serve, first + b"\n" + final + b"\n")

    assert outcome == Reject(REFUSED, reason=STRANGER)


def test_an_unknown_binding_is_refused(users):
    data = b"p=tls-unique,,n=user,r=abc\n"

    assert converse(server(users).serve, data, facts=BOUND) == Reject(
        REFUSED, reason="the client binds the channel to something else than tls-server-end-point"
    )


def test_a_server_that_insists_on_a_binding_needs_tls(users):
    assert play(server(users, plus=True).serve, []) == Story(
        Reject(REFUSED, reason="plus=on needs TLS, with a certificate that has a hash"),
        sent=REFUSED,
    )


def test_a_server_that_may_not_bind_does_not(users):
    outcomes = [
        rehearse(
            both(users, server_plus=False, client_plus=plus),
            server_facts=BOUND,
            client_facts=BOUND,
        ).server
        for plus in (None, False)
    ]

    assert [type(each) for each in outcomes] == [Reject, Accept]


@pytest.mark.parametrize("which", [0, 1])
def test_a_message_that_is_too_long_is_over_the_limit(users, which):
    first = EXAMPLE["lines"][0][1].encode() + b"\n"

    with pytest.raises(LimitExceeded) as caught:
        converse(server(users).serve, first * which + b"x" * (MAX_MESSAGE + 1))

    assert str(caught.value) == "peer sent more than 1024 bytes, the limit set by max_bytes"


@pytest.mark.parametrize("count", [0, 5, 33, 40])
def test_a_client_that_leaves_early_is_a_disconnect(users, count):
    with pytest.raises(PeerDisconnected):
        converse(server(users).serve, said_by("client", EXAMPLE)[:count])


def test_nonces_are_new_each_time(users):
    stories = {play(Scram(users).serve, [b"n,,n=user,r=abc\n"]).sent for _ in range(8)}

    assert len(stories) == 8
    assert all(each.startswith(b"r=abc") for each in stories)


def test_a_recorded_conversation_is_worth_nothing(users):
    story = play(Scram(users).serve, [said_by("client", EXAMPLE)])

    assert story.outcome == Reject(REFUSED, reason=STRANGER)


# Strangers


def first_answer(users, name):
    return play(server(users).serve, [f"n,,n={name},r=abc\n".encode()]).sent


def test_a_stranger_is_shown_the_same_salt_each_time(users):
    assert first_answer(users, "nobody") == first_answer(users, "nobody")
    assert first_answer(users, "nobody") != first_answer(users, "somebody")


def test_a_stranger_looks_like_a_user(users):
    user, stranger = first_answer(users, "user"), first_answer(users, "nobody")

    assert len(user) == len(stranger)
    assert user.endswith(b",i=4096\n")
    assert stranger.endswith(b",i=4096\n")


def test_a_stranger_who_becomes_a_user_and_leaves_again_is_the_same_stranger(users):
    before = first_answer(users, "nobody")
    text = users.read_text()

    users.write_text(with_user(text, "nobody", made("secret")))
    assert first_answer(users, "nobody") != before

    users.write_text(text)
    assert first_answer(users, "nobody") == before


def made(password, iterations=4096, salt=b"saltsaltsaltsalt"):
    """A verifier by RFC 5802 section 3, without the library."""
    salted = pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = sha256(digest(salted, b"Client Key", "sha256")).digest()
    return Verifier(iterations, salt, stored, digest(salted, b"Server Key", "sha256"))


def test_strangers_have_the_shapes_that_users_have():
    few, many = made("a"), made("b", 5000, b"s" * 12)
    users = Users({"ann": few, "bob": many}, b"k" * KEY_BYTES)
    names = [f"stranger{number}" for number in range(40)]

    shapes = {name: users.look_up(name).shape for name in names}
    fewer = Users({"ann": few}, b"k" * KEY_BYTES)

    assert set(shapes.values()) == {few.shape, many.shape}
    # Who had this shape before has it still.
    for name in names:
        assert fewer.look_up(name).shape == few.shape
        if shapes[name] == few.shape:
            assert fewer.look_up(name) == users.look_up(name)


def test_without_users_a_stranger_looks_like_a_user_who_could_be_made():
    assert Users({}).look_up("nobody").shape == (15000, 16)


def test_without_a_key_strangers_differ_from_one_start_to_the_next():
    assert Users({}).look_up("nobody") != Users({}).look_up("nobody")


# The file


def test_a_user_who_is_taken_out_is_a_stranger(users):
    handshake = both(users)
    assert isinstance(rehearse(handshake).server, Accept)

    users.write_text(with_user(users.read_text(), "user", None))

    assert rehearse(handshake).server == Reject(REFUSED, reason="unknown user")


def test_a_file_that_makes_no_sense_any_more_still_holds_and_the_log_says_so(users, caplog):
    handshake = both(users, password=b"wrong")
    users.write_text("oh\n")

    outcome = rehearse(handshake).server

    assert outcome.reason == (
        f"wrong password for user ({users}: line 1 is not a name and a value; write it with: "
        "sockproto scram-user NAME --file FILE; what it said before still holds)"
    )


SALT, KEY = b64encode(b"s" * 16).decode(), b64encode(b"k" * 32).decode()
NO_VERIFIER = (
    "line 2 has no SCRAM-SHA-256$...; write it with: sockproto scram-user NAME --file FILE"
)
REMEDY = "write it with: sockproto scram-user NAME --file FILE"


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("ann", f"line 2 is not a name and a value; {REMEDY}"),
        ("ann sesame", NO_VERIFIER),
        (f"ann SCRAM-SHA-1$4096:{SALT}${KEY}:{KEY}", NO_VERIFIER),
        (f"ann SCRAM-SHA-256$4096:{SALT}${KEY}:AAAA", NO_VERIFIER),
        (f"ann SCRAM-SHA-256$4096:{SALT}$?{KEY}:{KEY}", NO_VERIFIER),
        (f"ann SCRAM-SHA-256$4096:{SALT}$\u00e4{KEY}:{KEY}", NO_VERIFIER),
        (
            f"ann SCRAM-SHA-256$4095:{SALT}${KEY}:{KEY}",
            "line 2 has not 4096 to 500000 iterations and a salt of 12 bytes or more; "
            "set the password again",
        ),
        (
            f"ann SCRAM-SHA-256$500001:{SALT}${KEY}:{KEY}",
            "line 2 has not 4096 to 500000 iterations and a salt of 12 bytes or more; "
            "set the password again",
        ),
        (
            f"ann SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY}",
            "line 2 has not 4096 to 500000 iterations and a salt of 12 bytes or more; "
            "set the password again",
        ),
        (
            f"ann {made('a')}\nann {made('b')}",
            "line 3 names a user again; keep one of the two",
        ),
        (
            "# strangers: AAAA",
            "line 2 holds no key of 32 bytes for strangers; delete it, and sockproto scram-user "
            "writes a new one",
        ),
        (
            "# strangers: \u00e4",
            "line 2 holds no key of 32 bytes for strangers; delete it, and sockproto scram-user "
            "writes a new one",
        ),
        (
            "# strangers: ???",
            "line 2 holds no key of 32 bytes for strangers; delete it, and sockproto scram-user "
            "writes a new one",
        ),
    ],
)
def test_a_line_that_is_no_user_is_named_and_not_shown(line, trouble):
    with pytest.raises(ValueError) as refused:
        parse_users(f"# users\n{line}\n".encode())

    assert str(refused.value) == trouble


def test_a_verifier_is_written_as_postgresql_does_and_never_shown():
    verifier = made("sesame")

    [_, value] = VECTORS["users"][1].split()
    assert str(parse_users(VECTORS["users"][1].encode()).look_up("user")) == value
    assert repr(verifier) == "Verifier(iterations=4096)"


def test_a_new_file_gets_a_key_for_strangers():
    text = with_user("", "ann", made("sesame"))

    assert text.startswith("# strangers: ")
    assert "ann" in parse_users(text.encode())


def test_whatever_else_stands_in_the_file_stays_where_it_is():
    text = f"# strangers: {KEY}\n\n# us\nann {made('a')}\nbob {made('b')}\n"

    changed = with_user(text, "ann", made("c"))

    assert changed == text.replace(str(made("a")), str(made("c")))
    assert with_user(changed, "ann", None) == f"# strangers: {KEY}\n\n# us\nbob {made('b')}\n"
    assert with_user(text, "eve", made("e")) == f"{text}eve {made('e')}\n"


# The client's side


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"OK\n",
        b"\n",
        b"\xff\n",
        b"r=other,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096\n",
        b"r=rOprNGfwEbeRWgbNEkqO,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4096\n",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdHNhbHRzYWx0c2FsdA==,i=4095\n",
    ],
)
def test_the_client_recognises_a_stranger(answer):
    assert converse(client().connect, answer) == Reject(reason="that is not a scram server")


@pytest.mark.parametrize("error", [b"e=other-error\n", b"e=invalid-proof\n", b"e=odd\n"])
def test_the_client_hears_that_it_is_refused(error):
    assert converse(client().connect, error) == Reject(
        reason="wrong user or password; or the server insists on TLS, with plus=on"
    )


def test_the_client_finds_out_a_server_that_does_not_know_the_password():
    answer = EXAMPLE["lines"][1][1].encode() + b"\nv=" + b64encode(b"x" * 32) + b"\n"

    assert converse(client().connect, answer) == Reject(
        reason="the server does not know the password: its proof is wrong; is it the right one?"
    )


def test_the_client_does_not_hash_for_ever():
    answer = b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdHNhbHRzYWx0c2FsdA==,i=500001\n"

    assert converse(client().connect, answer) == Reject(
        reason="the server asks for 500001 iterations, and we do 500000 at most; "
        "set the password again with fewer"
    )


def test_a_client_that_insists_on_a_binding_says_nothing_without_tls():
    assert play(client(plus=True).connect, []) == Story(
        Reject(reason="plus=on needs TLS, to a server whose certificate has a hash")
    )


def test_a_client_that_insists_on_a_binding_binds(users):
    story = rehearse(both(users, client_plus=True), server_facts=BOUND, client_facts=BOUND)

    assert story.client == Accept()
    assert story.client_sent.startswith(b"p=")


def test_names_and_passwords_are_prepared(users):
    users.write_text(with_user("", "a=b,c", made("I X")))

    # U+00AD is mapped to nothing, U+2168 to IX, U+00A0 to a blank (RFC 4013 section 2).
    story = rehearse(both(users, user="a=b\u00ad,c", password="I\u00a0X".encode()))

    assert story.client_sent.startswith(b"n,,n=a=3Db=2Cc,")
    assert story.server.identity == "a=b,c"


# What it is made of


@pytest.mark.parametrize("source", ["password_file", "env", "password"])
def test_a_password_comes_from_one_place(users, tmp_path, monkeypatch, source):
    file = tmp_path / "word"
    file.write_bytes(b"pencil\r\n")
    monkeypatch.setenv("SOCKPROTO_TEST_WORD", "pencil")
    given = {"password_file": file, "env": "SOCKPROTO_TEST_WORD", "password": b"pencil"}

    class Both:
        serve = Scram(users).serve
        connect = Scram(user="user", **{source: given[source]}).connect

    assert rehearse(Both()).client == Accept()


def test_a_side_that_cannot_be_is_not_there(users):
    assert Scram(users).connect is None
    assert client().serve is None
    assert Scram(users, user="user", password=b"pencil").connect is not None


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ({}, "scram needs file=PATH to serve, or user= and a password to connect"),
        ({"password": b"x"}, "scram has a password, and nobody to whom it belongs: user="),
        (
            {"user": "ann"},
            "scram needs one of password=TEXT, password_file=PATH or env=NAME",
        ),
        (
            {"user": "ann", "password": b"x", "env": "HOME"},
            "scram needs one of password=TEXT, password_file=PATH or env=NAME",
        ),
        ({"user": "ann", "password": b""}, "scram finds an empty password, which nobody has"),
        ({"user": "ann", "password": b"\xff"}, "scram needs a password in UTF-8"),
        (
            {"user": "", "password": b"x"},
            "scram has a user whose name is empty or what SASLprep forbids (RFC 4013), as are "
            "control characters; choose another",
        ),
        (
            {"user": "ann", "password": b"se\x00same"},
            "scram has a password that holds what SASLprep forbids (RFC 4013), as are control "
            "characters; choose another",
        ),
        (
            {"user": "ann", "env": "SOCKPROTO_NO_SUCH"},
            "scram finds no variable SOCKPROTO_NO_SUCH in the environment",
        ),
        (
            {"user": "ann", "password_file": Path("/nowhere/word")},
            "scram cannot read /nowhere/word: no such file or directory",
        ),
        (
            {"file": Path("/nowhere/users")},
            "/nowhere/users cannot be read: no such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_sentence(given, trouble):
    with pytest.raises(ConfigurationError) as refused:
        Scram(**given)

    assert str(refused.value) == trouble


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scramp", None)

    with pytest.raises(ConfigurationError) as refused:
        client()

    assert "pip install 'sockproto[scram]'" in str(refused.value)


def test_it_is_found_by_its_name(users):
    assert isinstance(handshake_from_string(f"scram:{users}"), Scram)
    assert isinstance(handshake_from_string(f"scram:file={users}:plus=on"), Scram)


def test_nothing_shows_a_password(users):
    handshake = client(password=b"s3same")
    exchange = Exchange(handshake.connect)
    exchange.receive_data(b"oops\n")

    shown = f"{handshake!r} {exchange!r} {exchange.waiting_on} {exchange.outcome}"
    assert "s3same" not in shown


def test_a_name_that_nobody_has_is_not_in_the_log(users):
    outcome = rehearse(both(users, user="s3same", password=b"user")).server

    assert outcome == Reject(REFUSED, reason="unknown user")
