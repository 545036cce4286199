"""What is not safe to print is escaped, and no more than that."""

from sockproto.service.escaping import escaped, printable


def test_what_is_escaped_can_still_be_read():
    assert escaped("a\nb\x1b[31m\x00\xff\u2028\udcff") == r"a\nb\x1b[31m\x00ÿ\u2028\udcff"
    assert escaped("grüße, 世界") == "grüße, 世界"


def test_a_long_field_is_cut():
    assert printable("a" * 256) == "a" * 256
    assert printable("a" * 257) == "a" * 256 + "..."
    assert printable("\n" * 10_000) == r"\n" * 256 + "..."
