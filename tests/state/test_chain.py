"""The chain's and the anchor's formats: what one version wrote, each later one has to find intact."""

from __future__ import annotations

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from mcp_spaces.state.chain import START, Anchor, Link, Sealer
from tests.descriptors import open_here

KEY = bytes(range(32))


def mac(*parts: bytes) -> bytes:
    """As the module's docstring has it."""
    return hmac.digest(KEY, b"".join(len(part).to_bytes(8, "big") + part for part in parts), hashlib.sha256)


def test_a_row_s_mac_is_over_the_one_before_it_and_all_that_the_row_says() -> None:
    first = Sealer(KEY).next_link(START, at=1.5, kind="intent", run_id="run_1", body='{"a":1}')
    assert first == Link(1, mac(b"chain", bytes(32), b"1", b"1.5", b"intent", b"run_1", b'{"a":1}'))
    second = Sealer(KEY).next_link(first, at=2, kind="outcome", run_id="", body="é")
    assert second == Link(2, mac(b"chain", first.mac, b"2", b"2.0", b"outcome", b"", "é".encode()))
    assert first.receipt == "1:f03816529ce4775fe454d88eda61fa5b"


def test_a_row_s_seal_is_of_its_table_its_id_and_its_body() -> None:
    sealer = Sealer(KEY)
    seal = sealer.seal_row("spaces", "sp_1", "{}")
    assert seal == mac(b"row", b"spaces", b"sp_1", b"{}")
    assert sealer.row_is_intact("spaces", "sp_1", "{}", seal)
    for other in (
        ("keys", "sp_1", "{}"),
        ("spaces", "sp_2", "{}"),
        ("spaces", "sp_1", "{} "),
        ("spaces", "sp_1{", "}"),
    ):
        assert not sealer.row_is_intact(*other, seal)
    assert not Sealer(KEY[::-1]).row_is_intact("spaces", "sp_1", "{}", seal)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_sealing_key_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(b"k" * length)


def test_an_anchor_is_one_line_that_is_written_over_and_is_nobody_else_s_to_read(tmp_path: Path) -> None:
    path = tmp_path / "audit.head"
    assert Anchor.read(path) is None
    before = open_here()
    anchor = Anchor(path)
    assert anchor.is_new and Anchor.read(path) is None
    for link in (Link(7, b"a" * 32), Link(10**19, b"b" * 32), START):
        anchor.write(link)
        assert Anchor.read(path) == link and not anchor.is_new
    anchor.close()
    assert open_here() <= before
    assert path.read_text() == f"{'0' * 20} {'0' * 64}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["7", f"{7:020d} {'00' * 31}\n", f"{7:020d} {'00' * 32}\n\n", f"{'x' * 20} {'00' * 32}\n"]
)
def test_what_is_no_anchor_is_said_to_be_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "audit.head"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"damaged|invalid literal"):
        Anchor.read(path)
