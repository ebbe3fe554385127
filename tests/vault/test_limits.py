"""How much a secret, a seed and a vault hold, each to the character."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from mcp_spaces.errors import InvalidInput, QuotaExceeded
from mcp_spaces.vault.model import ENTRIES_MAX, SECRET_CHARACTERS_MAX, Bindings, Entry, Kind
from mcp_spaces.vault.totp import Seed, parse_seed
from mcp_spaces.vault.wanted import Wanted, amended, wanted_entry
from tests.vault.rig import EVERYTHING, SEED_80_BITS, open_rig


def wanted(kind: Kind = Kind.VALUE, **fields: str) -> Wanted:
    return wanted_entry("prod/a", kind, fields, label=None, bindings=Bindings(), now=1.0)


def test_a_field_holds_so_many_characters_and_no_more() -> None:
    assert SECRET_CHARACTERS_MAX == 65_536
    assert wanted(value="x" * SECRET_CHARACTERS_MAX).entry.fields == ("value",)
    for text in ("x" * (SECRET_CHARACTERS_MAX + 1), "\ud800", "ok\udfff"):
        with pytest.raises(InvalidInput, match="value is too long or no text"):
            wanted(value=text)
    with pytest.raises(InvalidInput, match="notes is too long"):
        wanted(value="x", notes="x" * (SECRET_CHARACTERS_MAX + 1))


def test_each_kind_has_its_own_fields_and_cannot_be_without_its_main_one() -> None:
    for kind, fields in (
        (Kind.VALUE, {}),
        (Kind.VALUE, {"value": ""}),
        (Kind.VALUE, {"value": "x", "token": "y"}),
        (Kind.VALUE, {"notes": "x"}),
        (Kind.API_KEY, {"value": "x"}),
        (Kind.LOGIN, {"username": "ann"}),
        (Kind.LOGIN, {"username": "ann", "totp": ""}),
        (Kind.LOGIN, {"username": "ann", "password": "x", "totp": "no seed"}),
    ):
        with pytest.raises(InvalidInput):
            wanted(kind, **fields)
    # A login may be a second factor alone; its fields have one order, whatever the one in which they were given.
    assert wanted(Kind.LOGIN, notes="x", totp=SEED_80_BITS, username="ann").entry.fields == (
        "username",
        "totp",
        "notes",
    )


def test_what_is_to_be_stored_shows_nothing_of_itself_and_begins_with_the_first_version() -> None:
    given = wanted(Kind.LOGIN, username="ann", password="correct horse", totp=SEED_80_BITS)
    assert given.entry.version == 1
    assert "correct horse" not in f"{given} {given!r}"
    assert "Hello" not in f"{parse_seed(SEED_80_BITS)} {parse_seed(SEED_80_BITS)!r}"


def test_codes_begin_anew_only_where_a_seed_is_given() -> None:
    login = {"username": "ann", "password": "correct horse", "totp": SEED_80_BITS}
    before = wanted(Kind.LOGIN, **login)
    assert before.sets_seed
    assert not wanted(Kind.LOGIN, username="ann", password="correct horse").sets_seed

    def again(**given: str | None) -> Wanted:
        return amended(before.entry, login, given=given, metadata={}, now=2.0)

    assert not again(password="another one").sets_seed
    assert again(totp=SEED_80_BITS).sets_seed
    cleared = again(totp=None)
    assert (cleared.sets_seed, cleared.entry.fields) == (False, ("username", "password"))


@pytest.mark.parametrize(
    ("size_bytes", "fits"), [(9, False), (10, True), (256, True), (257, False)], ids=["9", "10", "256", "257"]
)
def test_a_seed_has_10_to_256_bytes(size_bytes: int, fits: bool) -> None:
    text = base64.b32encode(b"k" * size_bytes).decode()
    if fits:
        assert parse_seed(text) == Seed(b"k" * size_bytes)
    else:
        with pytest.raises(InvalidInput, match="10 to 256 bytes"):
            parse_seed(text)


@pytest.mark.parametrize(
    ("parameter", "fits"),
    [
        ("digits=6", True), ("digits=8", True), ("digits=5", False), ("digits=9", False), ("digits=", False),
        ("period=5", True), ("period=300", True), ("period=4", False), ("period=301", False), ("period=0030", True),
        ("period=00030", False), ("digits=-6", False), ("period=30.0", False), ("algorithm=SHA-512", True),
        ("algorithm=SHA384", False), ("algorithm=", False), ("PERIOD=60&period=60", False), ("image=&issuer=x", True),
    ],
)  # fmt: skip
def test_an_otpauth_address_has_exact_limits(parameter: str, fits: bool) -> None:
    text = f"otpauth://totp/x?secret={SEED_80_BITS}&{parameter}"
    if fits:
        assert parse_seed(text).key == b"Hello!\xde\xad\xbe\xef"
    else:
        with pytest.raises(InvalidInput):
            parse_seed(text)


async def test_a_vault_holds_so_many_secrets_and_stores_none_of_what_would_be_more(tmp_path: Path) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("there/already", value="x")
        one = wanted(value="x")

        def numbered(number: int) -> Wanted:
            path: dict[str, object] = {"path": f"prod/n{number}"}
            entry: Entry = one.entry.model_copy(update=path)
            return Wanted(entry, one.fields)

        with pytest.raises(QuotaExceeded, match="20,000"):
            await rig.vault.keeping.put([numbered(n) for n in range(ENTRIES_MAX)], run_id="run_x", action="import")
        assert [known.path for known in await rig.vault.entries(scope=EVERYTHING)] == ["there/already"]
