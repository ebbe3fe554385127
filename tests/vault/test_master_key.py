"""Where the master key is: each source gives the same vault back, and nothing else opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.errors import InvalidInput, SpacesError, WrongState
from mcp_spaces.vault.given_keys import Given
from mcp_spaces.vault.master_key import MasterKeys
from mcp_spaces.vault.master_record import MasterRecord, Source
from mcp_spaces.vault.passphrase import Stretching, stretched
from tests.vault.rig import EVERYTHING, MemoryKeyring, Rig, open_rig

KEY, OTHER_KEY = "ab" * 32, "cd" * 32
PHRASE, OTHER_PHRASE = "twelve is enough", "another long phrase"


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def read(rig: Rig) -> str:
    opened = await rig.vault.open("prod/x", scope=EVERYTHING, purpose=SecretUse.RAW_READ, run_id="run_test")
    value = opened.field()
    assert value is not None
    return value.reveal()


@pytest.mark.parametrize(
    ("source", "given"),
    [
        (Source.FILE, Given()),
        (Source.KEYRING, Given()),
        (Source.ENVIRONMENT, Given(key=KEY)),
        (Source.PASSPHRASE, Given(passphrase=PHRASE)),
    ],
)
async def test_each_source_opens_the_vault_after_a_restart(tmp_path: Path, source: Source, given: Given) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=source, given=given, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
    async with open_rig(tmp_path, source=None, given=given, keyring=keyring) as rig:
        assert await read(rig) == "canary value"


@pytest.mark.parametrize("given", [Given(), Given(key=OTHER_KEY), Given(passphrase=PHRASE)])
async def test_another_or_no_key_opens_nothing_and_destroys_nothing(
    tmp_path: Path, given: Given, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_rig(tmp_path, source=Source.ENVIRONMENT, given=Given(key=KEY)) as rig:
        await rig.put("prod/x", value="canary value")
    async with open_rig(tmp_path, source=None, given=given) as rig:
        with pytest.raises(WrongState, match="vault is locked"):
            await read(rig)
        with pytest.raises(WrongState, match="vault is locked"):
            await rig.put("prod/x", value="another")
        assert "MCP_SPACES_MASTER_KEY is not set for the daemon" in caplog.text
    async with open_rig(tmp_path, source=None, given=Given(key=KEY)) as rig:
        assert await read(rig) == "canary value"


@pytest.mark.parametrize("given", [Given(key=KEY, next_key="none"), Given(passphrase=PHRASE, next_passphrase="short")])
async def test_a_next_key_that_is_none_keeps_nobody_from_what_the_current_one_opens(
    tmp_path: Path, given: Given, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source.ENVIRONMENT if given.key else Source.PASSPHRASE
    async with open_rig(tmp_path, source=source, given=given) as rig:
        await rig.put("prod/x", value="canary value")
    async with open_rig(tmp_path, source=None, given=given) as rig:
        assert await read(rig) == "canary value"
    if source is Source.ENVIRONMENT:
        async with open_rig(tmp_path, source=None, given=Given(key=OTHER_KEY, next_key="none")) as rig:
            with pytest.raises(WrongState, match="vault is locked"):
                await read(rig)
        assert "MCP_SPACES_NEXT_MASTER_KEY holds is no master key" in caplog.text


@pytest.mark.parametrize("source", [Source.FILE, Source.KEYRING])
async def test_what_stands_beside_the_current_key_keeps_nobody_from_what_that_one_opens(
    tmp_path: Path, source: Source
) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=source, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
    if source is Source.FILE:
        (tmp_path / "master.key.next").write_text("none")
    else:
        keyring.kept["mcp-spaces", "in_test.next"] = "none"
    async with open_rig(tmp_path, source=None, keyring=keyring) as rig:
        assert await read(rig) == "canary value"


def test_the_best_source_that_there_is_is_chosen(tmp_path: Path) -> None:
    def chosen(given: Given, keyring: MemoryKeyring | None) -> Source:
        return MasterKeys(tmp_path, instance_id="in", given=given, keyring=lambda: keyring).choose()

    assert chosen(Given(key=KEY, passphrase=PHRASE), MemoryKeyring()) is Source.ENVIRONMENT
    assert chosen(Given(passphrase=PHRASE), MemoryKeyring()) is Source.PASSPHRASE
    assert chosen(Given(), MemoryKeyring()) is Source.KEYRING
    assert chosen(Given(), None) is Source.FILE


async def test_a_locked_keyring_is_an_error_that_holds_nothing_private(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = MemoryKeyring()
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
    keyring.locked = True
    async with open_rig(tmp_path, keyring=keyring) as rig:
        with pytest.raises(WrongState, match="vault is locked") as refused:
            await read(rig)
        assert "hunter2" not in repr(refused.value) + caplog.text
        assert "The OS keyring refused" in caplog.text
        keyring.locked = False
        assert await read(rig) == "canary value"


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in Source for b in Source])
async def test_a_vault_is_given_another_master_key(tmp_path: Path, before: Source, after: Source) -> None:
    keyring = MemoryKeyring()
    given = Given(key=KEY, next_key=OTHER_KEY, passphrase=PHRASE, next_passphrase=OTHER_PHRASE)
    async with open_rig(tmp_path, source=before, given=given, keyring=keyring) as rig:
        await rig.put("prod/x", value="canary value")
        old_file = (tmp_path / "master.key").read_text() if before is Source.FILE else None
        old_keyring = dict(keyring.kept)
        record = await rig.vault.keys.rekey(after, run_id="run_test")
        assert record.source is after
        assert await read(rig) == "canary value"
    afterwards = Given(key=OTHER_KEY, passphrase=OTHER_PHRASE)
    async with open_rig(tmp_path, source=None, given=afterwards, keyring=keyring) as rig:
        assert await read(rig) == "canary value"
    if old_file is not None:
        assert not (tmp_path / "master.key").exists() or (tmp_path / "master.key").read_text() != old_file
    assert not (set(old_keyring.items()) & set(keyring.kept.items()))
    assert {path.suffix for path in files(tmp_path)}.isdisjoint({".next", ".partial"})


async def test_a_key_without_a_vault_is_used_again_and_never_replaced(tmp_path: Path) -> None:
    """Its database may be restored later."""
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
    key = (tmp_path / "master.key").read_text()
    for path in files(tmp_path):
        if path.name != "master.key":
            path.unlink()
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
    assert (tmp_path / "master.key").read_text() == key


def takes_no_next_key(folder: Path) -> None:
    (folder / "master.key.next").mkdir()


def takes_no_key(folder: Path) -> None:
    (folder / "master.key").mkdir()


@pytest.mark.parametrize("damage", [takes_no_next_key, takes_no_key])
async def test_where_the_key_of_a_new_vault_cannot_be_kept_is_for_the_operator_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damage(tmp_path)
    async with open_rig(tmp_path) as rig:
        # As a browser's profile asks for it, and a gateway's own key.
        with pytest.raises(WrongState) as refused:
            await rig.vault.seal(b"cookies", label="a profile")
    assert refused.value.message == "The vault's master key cannot be kept."
    assert str(tmp_path) not in refused.value.hint
    told = refused.value.for_operator
    assert told is not None and str(tmp_path / "master.key") in told.message
    assert told.message.removeprefix(refused.value.message) in caplog.text


async def test_a_keyring_that_refuses_the_key_of_a_new_vault_is_for_the_operator_alone(tmp_path: Path) -> None:
    keyring = MemoryKeyring(refused="in_test")
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=keyring) as rig:
        with pytest.raises(WrongState) as refused:
            await rig.vault.seal(b"cookies", label="a profile")
    assert refused.value.message == "The vault's master key cannot be kept."
    assert refused.value.for_operator is not None and "keyring refused" in refused.value.for_operator.message


@pytest.mark.parametrize("damage", ["mode", "link", "text", "folder"])
async def test_a_key_file_that_others_may_have_touched_is_refused(tmp_path: Path, damage: str) -> None:
    async with open_rig(tmp_path) as rig:
        await rig.put("prod/x", value="canary value")
    file = tmp_path / "master.key"
    if damage == "mode":
        file.chmod(0o640)
    elif damage == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_text("no key")
    async with open_rig(tmp_path) as rig:
        with pytest.raises(WrongState):
            await read(rig)


def test_a_key_of_another_length_is_refused_without_being_repeated(tmp_path: Path) -> None:
    for text in ("abcd", "é" * 64, "zz" * 32, KEY + "00"):
        masters = MasterKeys(tmp_path, instance_id="in", given=Given(key=text), keyring=lambda: None)
        with pytest.raises(SpacesError) as refused:
            masters.stage(Source.ENVIRONMENT, before=None)
        assert text not in refused.value.message + refused.value.hint


@pytest.mark.parametrize(
    ("source", "name"), [(Source.ENVIRONMENT, "MASTER_KEY"), (Source.PASSPHRASE, "PASSPHRASE")], ids=["key", "phrase"]
)
def test_what_the_environment_has_to_give_is_named(tmp_path: Path, source: Source, name: str) -> None:
    masters = MasterKeys(tmp_path, instance_id="in", given=Given(), keyring=lambda: None)
    before = MasterRecord(source=Source.FILE, master_id="of another")
    for record, wanted in ((None, f"MCP_SPACES_{name} is not set"), (before, f"MCP_SPACES_NEXT_{name} is not set")):
        with pytest.raises(WrongState, match=wanted):
            masters.stage(source, before=record)
    wrong = MasterKeys(tmp_path, instance_id="in", given=Given(next_key="none"), keyring=lambda: None)
    with pytest.raises(WrongState, match="MCP_SPACES_NEXT_MASTER_KEY holds"):
        wrong.stage(Source.ENVIRONMENT, before=before)


def test_the_same_passphrase_gives_the_same_key_only_with_the_same_salt() -> None:
    one, two = Stretching(salt="00" * 16), Stretching(salt="01" * 16)
    assert stretched(PHRASE, one) == stretched(PHRASE, one)
    assert stretched(PHRASE, one) != stretched(PHRASE, two)
    with pytest.raises(InvalidInput, match="too short"):
        stretched("short", one)


def test_keys_show_nothing_of_themselves() -> None:
    given = Given(key=KEY, passphrase=PHRASE)
    master = stretched(PHRASE, Stretching(salt="00" * 16))
    shown = f"{given} {given!r} {master} {master!r}"
    assert KEY not in shown
    assert PHRASE not in shown
    assert master.key.hex() not in shown
    assert repr(master.key) not in shown
