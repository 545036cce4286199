import hmac
from base64 import b64encode

import pytest

from sockproto.handshakes._keys import MAX_KEYS, Keys, Mac, entry_for, parse_keys

NEW, OLD = bytes(range(32)), bytes(range(100, 116))
TWO = f"{entry_for('new', NEW)}\n{entry_for('old', OLD)}\n".encode()

WRITE = "write it with: sockproto keygen --file FILE"


def proofs(key):
    """What a key makes of a few bytes, on either side."""
    return key.client.digest(b"to be proved"), key.server.digest(b"to be proved")


def computed(secret):
    """The same, by the library's own HMAC."""
    label = b"sockproto challenge 1\n"
    return tuple(
        hmac.digest(secret, label + role + b"to be proved", "sha256") for role in (b"C", b"S")
    )


def test_each_id_has_its_key():
    keys = parse_keys(TWO)

    found = [keys.find(id) for id in (b"new", b"old")]
    assert [(each.name, each.id, proofs(each)) for each in found] == [
        ("new", b"new", computed(NEW)),
        ("old", b"old", computed(OLD)),
    ]


@pytest.mark.parametrize("size", [16, 32, 63, 64])
@pytest.mark.parametrize("beginning", [b"", b"x" * 23, b"x" * 64])
def test_a_mac_is_an_hmac(size, beginning):
    mac = Mac(NEW[:1] * size, beginning)

    for rest in (b"", b"hello", bytes(range(200))):
        for _ in range(2):
            assert mac.digest(rest) == hmac.digest(NEW[:1] * size, beginning + rest, "sha256")


@pytest.mark.parametrize("id", [b"", b"ne", b"new ", b"NEW", b"\xff" * 64])
def test_what_is_no_id_has_a_key_that_nobody_has(id):
    keys, others = parse_keys(TWO), parse_keys(TWO)

    found = keys.find(id)

    assert found.id == b""
    assert proofs(found) not in (computed(NEW), computed(OLD), proofs(others.find(id)))


def test_the_first_is_current_unless_another_is_wanted():
    assert parse_keys(TWO).current.id == b"new"
    assert parse_keys(TWO, wanted="old").current.id == b"old"


def test_as_many_keys_as_there_may_be_have_a_place_each():
    ids = [f"key {number}" for number in range(MAX_KEYS)]

    keys = Keys(dict.fromkeys(ids, NEW))

    assert [keys.find(id.encode()).id.decode() for id in ids] == ids


def test_two_ids_in_one_place_are_given_another_salt():
    # Their digests, without a salt, begin with the same three bytes; found by trying.
    ids = ["id-1231", "id-1412"]

    keys = Keys(dict.fromkeys(ids, NEW))

    assert [keys.find(id.encode()).id.decode() for id in ids] == ids


def test_comments_and_blank_lines_do_not_matter():
    text = b"# keys\r\n\r\n  new\t" + b64encode(NEW) + b"  \r\n#old " + b64encode(OLD)

    assert proofs(parse_keys(text).find(b"new")) == computed(NEW)
    assert parse_keys(text).find(b"old").id == b""


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        (b"", f"there is no key; {WRITE}"),
        (b"# none", f"there is no key; {WRITE}"),
        (b64encode(NEW), f"line 1 is not a name and a value; {WRITE}"),
        (b"new " + b64encode(NEW)[:-1], f"line 1 has no key in base64; {WRITE}"),
        (b"new ***", f"line 1 has no key in base64; {WRITE}"),
        ("new \u00e4".encode(), f"line 1 has no key in base64; {WRITE}"),
        (
            b"new " + b64encode(NEW[:15]),
            f"line 1 has a key of 15 bytes, and it takes 16 to 64; {WRITE}",
        ),
        (
            b"#\nnew " + b64encode(NEW * 2 + b"x"),
            f"line 2 has a key of 65 bytes, and it takes 16 to 64; {WRITE}",
        ),
        (TWO + TWO, "line 3 has the id of a line above; keep one of the two"),
        (
            "".join(f"{number} {b64encode(NEW).decode()}\n" for number in range(4097)).encode(),
            "there are 4097 keys, and 4096 is the most; take out some",
        ),
    ],
)
def test_what_makes_no_sense_is_told_without_what_stands_there(text, trouble):
    with pytest.raises(ValueError) as caught:
        parse_keys(text)

    assert str(caught.value) == trouble
    assert caught.value.__cause__ is None


def test_an_id_that_is_wanted_has_to_be_there():
    with pytest.raises(ValueError) as caught:
        parse_keys(TWO, wanted="newer")

    assert str(caught.value) == "no key has the id newer, which id= asks for; new, old do"


def test_a_key_is_never_shown():
    keys = parse_keys(TWO)

    shown = repr(keys) + repr(keys.current)
    assert repr(keys.current) == "<Key 'new'>"
    assert b64encode(NEW).decode() not in shown
    assert repr(NEW)[2:20] not in shown
