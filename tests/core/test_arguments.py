from pathlib import Path
from typing import get_args, get_type_hints

from sockproto.core.arguments import ENDPOINT, SECRET, Endpoint, Secret


class Doorman:
    def __init__(self, word: Secret, upstream: Endpoint, book: Path) -> None: ...


def test_a_marked_argument_is_still_of_its_type():
    assert get_type_hints(Doorman.__init__) == {
        "word": bytes,
        "upstream": str,
        "book": Path,
        "return": type(None),
    }


def test_the_mark_can_be_found_on_the_constructor():
    hints = get_type_hints(Doorman.__init__, include_extras=True)

    assert get_args(hints["word"]) == (bytes, SECRET)
    assert get_args(hints["upstream"]) == (str, ENDPOINT)


def test_a_mark_shows_its_name():
    assert (repr(SECRET), repr(ENDPOINT)) == ("SECRET", "ENDPOINT")
