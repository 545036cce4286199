from door import Passphrase

from sockproto import PeerDisconnected
from sockproto.testing import assert_conforms, dialogue


def test_it_conforms_though_it_has_no_docstring():
    assert_conforms(Passphrase(b"sesame"), secrets=[b"sesame"], weak=["says-what-it-does"])


def test_the_session_gets_what_follows():
    dialogue(Passphrase(b"sesame").serve).hears(b"sesame\nhello").says(b"OK\n").accepts(
        leaves=b"hello"
    )


def test_who_leaves_early_is_not_answered():
    dialogue(Passphrase(b"sesame").serve).hears(b"ses").waits("receive_until").hears_end().fails(
        PeerDisconnected, "after 3 bytes"
    )
