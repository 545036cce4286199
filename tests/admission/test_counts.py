from sockproto.admission.counts import Counts


def test_a_connection_is_counted_until_it_is_gone():
    counts = Counts()

    counts.enter(7, False)
    assert (counts.connections, counts.pending) == (1, [1, 0])
    assert (counts.connections_of, counts.pending_of) == ({7: 1}, {7: 1})

    counts.settle(7, False)
    assert (counts.connections, counts.pending) == (1, [0, 0])
    assert (counts.connections_of, counts.pending_of) == ({7: 1}, {})

    counts.leave(7)
    assert (counts.connections, counts.connections_of) == (0, {})


def test_the_connections_of_one_source_are_counted_together():
    counts = Counts()
    for tls in (False, True, False):
        counts.enter(7, tls)
    counts.enter(8, False)

    counts.settle(7, True)
    counts.settle(7, False)
    counts.leave(7)

    assert (counts.connections, counts.pending) == (3, [2, 0])
    assert (counts.connections_of, counts.pending_of) == ({7: 2, 8: 1}, {7: 1, 8: 1})


def test_who_has_no_source_is_counted_among_all_only():
    counts = Counts()

    counts.enter(None, True)
    assert (counts.connections, counts.pending) == (1, [0, 1])
    assert (counts.connections_of, counts.pending_of) == ({}, {})

    counts.settle(None, True)
    counts.leave(None)
    assert (counts.connections, counts.pending) == (0, [0, 0])
