"""What a sandbox without Python answers: taken where it makes sense, and nothing but one sandbox lost where it does not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.docker import exec_answers as answers
from mcp_spaces.sandbox.port import FileKind

PARTS = st.sampled_from([b"|", b"\0", b"\n", b":", b" ", b"f", b"7", b"-1", b"nan", b"1e999", b"oom_kill ", b"\xff"])
NOISE = st.lists(st.one_of(PARTS, st.binary(max_size=3)), max_size=30).map(b"".join)
READERS: dict[str, Callable[[bytes], object]] = {
    "content": lambda said: answers.content_of(said, offset=0, limit=10),
    "matches": answers.searched_of,
    "one": answers.described,
    "many": answers.entries,
    "usage": answers.usage_of,
    "kills": answers.kills_of,
    "number": answers.number,
}


@pytest.mark.parametrize("reader", READERS)
@given(said=NOISE)
def test_noise_is_nonsense_or_an_answer_and_nothing_else(reader: str, said: bytes) -> None:
    with suppress(RuntimeUnavailable):
        READERS[reader](said)


@pytest.mark.parametrize(
    "said",
    [
        b"/workspace/a|f|-1|0|644\0",
        b"/workspace/a|f|1|nan|644\0",
        b"/workspace/a|f|1|1e999|644\0",
        b"/workspace/a|f|1|0|999\0",
        b"/workspace/a|f|1234567890123456789|0|644\0",
        b"/workspace/a\0",
    ],
)
def test_an_entry_that_no_file_has_is_nonsense(said: bytes) -> None:
    with pytest.raises(RuntimeUnavailable):
        answers.entries(said)


@pytest.mark.parametrize("said", [b"/workspace/a", b"/workspace/a\0word\n", b"/workspace/a\x00x:word\n"])
def test_a_match_that_no_line_has_is_nonsense(said: bytes) -> None:
    with pytest.raises(RuntimeUnavailable):
        answers.searched_of(said)


@pytest.mark.parametrize("said", [b"", b"1 2", b"1 2 3 4", b"1 two 3"])
def test_a_use_that_lacks_a_number_is_nonsense(said: bytes) -> None:
    with pytest.raises(RuntimeUnavailable):
        answers.usage_of(said)


def test_what_makes_sense_is_taken_as_it_is() -> None:
    first, second = answers.entries(b"/workspace/a|b|f|3|1.5|755\0/workspace/d\xff|d|0|2|755\0")
    assert (first.path, first.kind, first.size_bytes, first.modified_at, first.executable) == (
        "a|b", FileKind.FILE, 3, 1.5, True
    )  # fmt: skip
    assert (second.path, second.kind, second.executable) == ("d\\xff", FileKind.DIRECTORY, False)
    assert not answers.entries(b"/workspace/a|f|3|1|644\0")[0].executable
    assert answers.described(b"/workspace|directory|0|1|755\n").path == "."
    read = answers.content_of(b"12\n7 12 now then\n/workspace/a/b\0content\0more", offset=3, limit=9)
    assert (read.content, read.offset, read.size_bytes) == (b"content\0m", 3, 12)
    assert (read.resolved_path, read.version) == ("a/b", "7 12 now then")
    searched = answers.searched_of(
        b"/workspace/b\x0010:x:y\n/workspace/b\x002:z\n/workspace/a\x001:"
        + bytes(2000)
        + b"\n/workspace/log\x001\n/workspace/binary\x000\n"
    )
    found = searched.matches
    assert searched.too_large == ["log"]
    assert [(one.path, one.line) for one in found] == [("a", 1), ("b", 2), ("b", 10)]
    assert found[2].text == "x:y"
    assert len(found[0].text) == answers.LINE_BYTES
    assert answers.kills_of(b"low 0\noom 3\noom_kill 2\noom_kill 9\n") == 2
    assert answers.kills_of(b"oom_kill_disable 0\nunder_oom 0\n") == 0
    use = answers.usage_of(b"1\n2\n3\n")
    assert (use.memory_bytes, use.disk_bytes, use.pids) == (1, 2, 3)


def test_a_list_is_cut_in_the_order_of_its_paths() -> None:
    found = answers.entries(b"".join(b"/workspace/%d|f|0|0|644\0" % number for number in (3, 1, 2)))
    cut, whole = answers.listing(list(found), 2), answers.listing(list(found), 3)
    assert ([one.path for one in cut.entries], cut.truncated) == (["1", "2"], True)
    assert ([one.path for one in whole.entries], whole.truncated) == (["1", "2", "3"], False)
