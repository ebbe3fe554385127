"""The grammar of stored names: refused, never repaired."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_spaces.errors import InvalidInput
from mcp_spaces.storage.names import DEPTH_MAX, broken_rule, check_namespace, check_path, is_within, skeleton

PATHS = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6).map("/".join)


@pytest.mark.parametrize(
    "path",
    ["a", "a/b.txt", "reports/2024/summary.csv", ".gitignore", "a b/c d", "é", "日本語/数据.csv", "a" * 255, "🎉.txt"],
)
def test_ordinary_names_are_fine(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a ", " a", "a/ b", "a.", "a/b./c", "a\0b", "a\nb",
        "a\x1b]52;c;x\x07", "a\u200bb", "a\u202eb", "e\u0301", "a\u2215b", "a\uff0fb", "a\uff3cb", "\ud800", "\ue000",
        "\u2025/x", "x/\uff0e\uff0e", "a" * 256, "\u00e9" * 128, "/".join("a" * 20), "a\u2028b", "\U000e0041",
        "/".join(["a"] * (DEPTH_MAX + 1)), "/".join(["a" * 250] * 5), "a\u00a0b",
    ],
)  # fmt: skip
def test_others_are_refused_with_the_rule_that_they_break(path: str) -> None:
    if path == "/".join("a" * 20):
        assert broken_rule(path) is None
        return
    with pytest.raises(InvalidInput) as caught:
        check_path(path)
    assert caught.value.message.startswith("The path ") and caught.value.hint


@given(PATHS)
def test_what_is_accepted_holds_nothing_that_hides(path: str) -> None:
    if broken_rule(path) is not None:
        return
    assert unicodedata.is_normalized("NFC", path)
    assert path.isprintable() and "\\" not in path
    assert len(path.encode()) <= 1024
    segments = path.split("/")
    assert len(segments) <= DEPTH_MAX and not {"", ".", ".."} & set(segments)
    assert all(len(one.encode()) <= 255 and one.strip(" ") == one and not one.endswith(".") for one in segments)


@given(PATHS)
def test_folding_twice_changes_nothing_more(path: str) -> None:
    if broken_rule(path) is None:
        once = skeleton(path)
        assert skeleton(once) == once


@given(PATHS)
def test_a_folded_name_has_the_same_folders(path: str) -> None:
    if broken_rule(path) is None:
        folded = skeleton(path).split("/")
        assert len(folded) == path.count("/") + 1 and not {"", ".", ".."} & set(folded)


@pytest.mark.parametrize(
    ("one", "other"), [("README", "readme"), ("ﬁle", "file"), ("Ａ", "a"), ("Straße", "STRASSE"), ("①", "1")]
)
def test_names_that_look_alike_have_one_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize("name", ["", "*", "A", "a/b", "../a", ".a", "a" * 64, "é", "a b", "own\n"])
def test_a_namespace_has_a_plain_name(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_namespace(name)


def test_prefixes_match_whole_segments() -> None:
    assert is_within("reports/a", "reports") and is_within("reports", "reports") and is_within("x", "")
    assert not is_within("reports-x/a", "reports")
