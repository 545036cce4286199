import sys
from contextlib import suppress

import pytest
from door import Passphrase

from sockproto import PeerError
from sockproto.testing import converse


def one_story(data: bytes) -> None:
    with suppress(PeerError):
        converse(Passphrase(b"sesame").serve, data)


@pytest.mark.parametrize("data", [b"", b"ses", b"sesame\nhello", b"simsim\n", b"x" * 65])
def test_the_door_tells_one_story(data):
    one_story(data)


if __name__ == "__main__":
    import atheris

    atheris.instrument_func(Passphrase.serve)
    atheris.Setup(sys.argv, one_story)
    atheris.Fuzz()
