"""The last of what a job printed: whatever comes and however it is read, nothing is told twice, changed or out of order."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.sandbox.cutting import cost
from mcp_spaces.sandbox.port import Stream
from mcp_spaces.sandbox.ring import PIECES, RING_BYTES, Ring

Texts = list[tuple[Stream, str]]
GROWN = 4096
"""Bytes up to which small pieces grow together."""

printed = st.lists(
    st.tuples(st.sampled_from(Stream), st.text(st.sampled_from('ab"\n\0é€😀'), max_size=12)), max_size=30
)


def ring_of(texts: Texts) -> Ring:
    ring = Ring()
    for stream, text in texts:
        ring.add(stream, text.encode())
    return ring


def read(ring: Ring, cursor: int, *, budget: int) -> Texts:
    """Answer after answer, up to the end."""
    told: Texts = []
    while cursor < ring.end:
        texts, after = ring.since(cursor, budget, ended=True)
        assert sum(cost(text) for _, text in texts) <= budget
        assert after - cursor == sum(len(text.encode()) for _, text in texts) > 0
        assert all(text for _, text in texts)
        assert all(one[0] is not other[0] for one, other in pairwise(texts))
        told, cursor = told + texts, after
    assert ring.since(cursor, budget, ended=True) == ([], ring.end)
    return told


def joined(texts: Texts) -> Texts:
    groups = groupby((one for one in texts if one[1]), key=lambda one: one[0])
    return [(stream, "".join(text for _, text in group)) for stream, group in groups]


@given(printed, st.integers(6, 60))
def test_whatever_is_printed_is_read_whole_and_in_its_order(texts: Texts, budget: int) -> None:
    assert joined(read(ring_of(texts), 0, budget=budget)) == joined(texts)


@given(printed, st.data())
def test_from_any_cursor_on_the_rest_is_read(texts: Texts, data: st.DataObject) -> None:
    ascii_only = [(stream, text.encode("ascii", "replace").decode()) for stream, text in texts]
    ring = ring_of(ascii_only)
    cursor = data.draw(st.integers(0, ring.end))
    rest = "".join(text for _, text in ascii_only)[cursor:]
    assert "".join(text for _, text in read(ring, cursor, budget=20)) == rest


@given(printed, st.integers(0, 60))
def test_what_is_trimmed_begins_later_and_is_otherwise_the_same(texts: Texts, most_bytes: int) -> None:
    ascii_only = [(stream, text.encode("ascii", "replace").decode()) for stream, text in texts]
    ring = ring_of(ascii_only)
    ring.trim(most_bytes)
    whole = "".join(text for _, text in ascii_only)
    assert (ring.end, ring.start) == (len(whole), max(len(whole) - most_bytes, 0))
    assert "".join(text for _, text in read(ring, ring.start, budget=20)) == whole[ring.start :]
    assert ring.since(0, 20, ended=True) == ring.since(ring.start, 20, ended=True)


def test_a_character_of_which_a_part_has_come_is_told_once_it_is_whole() -> None:
    ring = Ring()
    ring.add(Stream.STDOUT, "a€".encode()[:-1])
    assert ring.since(0, 100, ended=False) == ([(Stream.STDOUT, "a")], 1)
    # At the end nothing follows, and in front of the other stream's output nothing that belongs to it.
    assert ring.since(0, 100, ended=True) == ([(Stream.STDOUT, "a\ufffd")], 3)
    ring.add(Stream.STDERR, b"b")
    assert ring.since(0, 100, ended=False) == ([(Stream.STDOUT, "a\ufffd"), (Stream.STDERR, "b")], 4)


def test_exactly_so_many_bytes_are_kept_and_one_more_costs_the_oldest_piece() -> None:
    ring = Ring()
    for _ in range(RING_BYTES // GROWN):
        ring.add(Stream.STDOUT, b"x" * GROWN)
    assert (ring.start, ring.end) == (0, RING_BYTES)
    ring.add(Stream.STDOUT, b"x")
    assert (ring.start, ring.end) == (GROWN, RING_BYTES + 1)


def test_small_pieces_grow_together_up_to_a_size() -> None:
    ring = Ring()
    ring.add(Stream.STDOUT, b"x" * (GROWN - 1))
    ring.add(Stream.STDOUT, b"x")
    ring.add(Stream.STDOUT, b"x")
    ring.add(Stream.STDOUT, b"x" * (RING_BYTES - 1))
    assert ring.start == GROWN, "the first piece is gone, and that much was in it"


def test_a_job_that_prints_byte_by_byte_keeps_as_much_as_any_other() -> None:
    ring = Ring()
    for _ in range(2 * PIECES):
        ring.add(Stream.STDOUT, b"x")
    assert (ring.start, ring.end) == (0, 2 * PIECES)


def test_exactly_so_many_pieces_are_kept_and_one_more_costs_the_oldest() -> None:
    ring = Ring()
    for number in range(PIECES):
        ring.add(list(Stream)[number % 2], b"x")
    assert ring.start == 0
    ring.add(Stream.STDOUT, b"")
    assert ring.start == 0
    ring.add(Stream.STDOUT, b"x")
    assert ring.start == 1


def test_an_empty_one_begins_where_it_ends() -> None:
    ring = ring_of([(Stream.STDOUT, "gone")])
    ring.trim(0)
    assert (ring.start, ring.end) == (4, 4)
    assert ring.since(0, 100, ended=True) == ([], 4)
