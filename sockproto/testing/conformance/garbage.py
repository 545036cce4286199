"""Bytes that nobody meant: good conversations with a mistake in them, and plain junk."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from sockproto.core.outcomes import Accept
from sockproto.testing.conformance.checks import Case, check
from sockproto.testing.conformance.networks import END, Again, Edited, Interrupted, Network
from sockproto.testing.conformance.results import Fault
from sockproto.testing.conformance.stage import SERVER
from sockproto.testing.conformance.subject import Subject, dice, mutation

NASTY = (
    b"\n",
    b"\r\n",
    b"\n" * 8,
    b"\0\n",
    b"\xff\xfe\xfd\n",
    b"\xc3\n",
    b"\xed\xa0\x80\n",
    b"-1\n",
    b"+1\n",
    b"1e9\n",
    b"nan\n",
    b"0x10\n",
    b"9" * 20 + b"\n",
    "\u0663\n".encode(),
    b" \t \n",
    b"%s%n\n",
    b"../../etc/passwd\n",
    b"\x1b[2J\n",
    b'"\n',
    b"'\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b"a=b,c=d\n",
    b"====\n",
    b"....\n",
    b"::::\n",
    b"0:,",
    b"00:,",
    b"1:a;",
    b"99999999:",
    b"\0\0\0\0",
    b"\0\x01",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
)
"""What parsers trip over: emptiness, encodings, numbers, quotes, lengths."""

STRANGERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "TLS": b"\x16\x03\x01\0\xc8\x01\0\0\xc4\x03\x03" + bytes(32),
    "SSH": b"SSH-2.0-client\r\n",
    "SMTP": b"EHLO example\r\n",
    "PROXY v1": b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 8001\r\n",
    "PROXY v2": b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
    "SOCKS": b"\x05\x01\0",
    "RESP": b"*1\r\n$4\r\nPING\r\n",
    "telnet": b"\xff\xfd\x18\xff\xfd\x20",
}
"""How others begin a conversation."""


def _mutate(subject: Subject, name: str, network: Network) -> None:
    subject.expect_ending(subject.cast.meet(name, network), name)


@check("garbage")
def flipped_bits(subject: Subject) -> Iterator[Case]:
    """A bit that is another one breaks nothing."""
    for name, seed in subject.seeded():
        random = dice("flipped-bits", seed)
        place = random.randrange(len(subject.parts[name].stream))
        yield partial(_mutate, subject, name, Edited(place, flip=1 << random.randrange(8)))


@check("garbage")
def replaced_bytes(subject: Subject) -> Iterator[Case]:
    """A byte that is another one breaks nothing."""
    for name, seed in subject.seeded():
        random = dice("replaced-bytes", seed)
        place = random.randrange(len(subject.parts[name].stream))
        yield partial(_mutate, subject, name, Edited(place, flip=random.randrange(1, 256)))


@check("garbage")
def inserted_bytes(subject: Subject) -> Iterator[Case]:
    """Bytes that nobody said, put in anywhere, break nothing."""
    for name, seed in subject.seeded():
        random = dice("inserted-bytes", seed)
        place = random.randrange(len(subject.parts[name].stream))
        more = random.randbytes(random.randint(1, 8))
        yield partial(_mutate, subject, name, Edited(place, insert=more))


@check("garbage")
def lost_bytes(subject: Subject) -> Iterator[Case]:
    """Bytes that are missing anywhere break nothing."""
    for name, seed in subject.seeded():
        random = dice("lost-bytes", seed)
        place = random.randrange(len(subject.parts[name].stream))
        yield partial(_mutate, subject, name, Edited(place, drop=random.randint(1, 8)))


@check("garbage")
def said_twice(subject: Subject) -> Iterator[Case]:
    """A message that comes twice breaks nothing."""
    for name, part in subject.listening():
        for message in range(len(part.heard)):
            yield partial(_mutate, subject, name, Again(message))


@check("garbage")
def every_byte_at_each_step(subject: Subject) -> Iterator[Case]:
    """No byte breaks anything, whenever it comes first."""
    for name, step in subject.steps():
        for value in range(256):
            yield partial(
                _mutate, subject, name, Interrupted(step, bytes([value]), b"\n" * 16, END)
            )


@check("garbage")
def nasty_words_at_each_step(subject: Subject) -> Iterator[Case]:
    """Nothing that parsers are known to trip over breaks anything."""
    for name, step in subject.steps():
        for word in NASTY:
            yield partial(_mutate, subject, name, Interrupted(step, word, END))


@check("garbage")
def random_bytes_at_each_step(subject: Subject) -> Iterator[Case]:
    """Random bytes of any number break nothing."""

    def look(name: str, step: int, seed: int) -> None:
        random = dice("random-bytes-at-each-step", seed)
        junk = random.randbytes(random.choice((1, 2, 3, 8, 33, 200, 1500, 5000)))
        _mutate(subject, name, Interrupted(step, junk, END))

    for seed in range(subject.cases):
        for name, step in subject.steps():
            yield partial(look, name, step, seed)


@check("garbage")
def random_lines_at_each_step(subject: Subject) -> Iterator[Case]:
    """Random text in lines breaks nothing."""

    def look(name: str, step: int, seed: int) -> None:
        random = dice("random-lines-at-each-step", seed)
        words = [
            "".join(map(chr, random.choices(range(32, 127), k=random.randrange(40))))
            for _ in range(random.randint(1, 6))
        ]
        junk = "".join(f"{word}\n" for word in words).encode()
        _mutate(subject, name, Interrupted(step, junk, END))

    for seed in range(subject.cases):
        for name, step in subject.steps():
            yield partial(look, name, step, seed)


@check("garbage")
def strangers(subject: Subject) -> Iterator[Case]:
    """Who speaks another protocol is let go, and not accepted."""

    def look(greeting: bytes) -> None:
        player = subject.cast.meet(SERVER, Interrupted(0, greeting, END))
        subject.expect_ending(player, SERVER)
        if isinstance(player.outcome, Accept) and not _takes_anybody(subject):
            raise Fault(f"{subject.title(SERVER)} accepts a stranger", player.heard)

    if SERVER in subject.sides:
        for greeting in STRANGERS.values():
            yield partial(look, greeting)


def _takes_anybody(subject: Subject) -> bool:
    """Whether the server accepts without having heard a word."""
    return isinstance(subject.cast.meet(SERVER, Interrupted(0, END)).outcome, Accept)


@check("garbage")
def mistakes_are_seen(subject: Subject) -> Iterator[Case]:
    """Not every mistake in what it is told is taken for the right thing."""

    def look(name: str) -> None:
        size = len(subject.parts[name].stream)
        for seed in range(subject.cases):
            network = mutation(dice("mistakes-are-seen", seed), size)
            if not isinstance(subject.cast.meet(name, network).outcome, Accept):
                return
        raise Fault(f"{subject.title(name)} accepts whatever it hears", weak=True)

    for name, part in subject.listening():
        if part.needed:
            yield partial(look, name)
