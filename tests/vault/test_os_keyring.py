"""Which of the OS's keyrings is trusted with a master key, and what becomes of one that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.backends.chainer import ChainerBackend

from mcp_spaces.errors import WrongState
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.os_keyring import system_keyring
from tests.vault.rig import MemoryKeyring, open_rig


class Forgetful(MemoryKeyring):
    def set_password(self, service: str, name: str, password: str) -> None:
        """As some do that are locked: no error, and nothing kept."""


class Sealed(KeyringBackend):
    priority = 5.0

    def get_password(self, service: str, username: str) -> str | None:
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


class Least(Sealed):
    priority = 1.0


class Plain(Sealed):
    """The library's words for a file that anybody can read."""

    priority = 0.5


class Scribbled(Sealed):
    """Of the package that keeps secrets in plain files, whatever it says of itself."""

    __module__ = "keyrings.alt.file"


def chain(*kinds: type[KeyringBackend]) -> KeyringBackend:
    """What the library chooses where there are several."""
    links = [kind() for kind in kinds]
    made: KeyringBackend = type("Chain", (ChainerBackend,), {"priority": 10.0, "backends": links})()
    return made


@pytest.fixture
def chosen() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("backend", "trusted"),
    [(Sealed, True), (Least, True), (Plain, False), (Scribbled, False), (fail.Keyring, False), (null.Keyring, False)],
)
def test_only_a_keyring_that_keeps_secrets_sealed_is_one(
    chosen: None, backend: type[KeyringBackend], trusted: bool
) -> None:
    keyring.set_keyring(backend())
    assert (system_keyring() is not None) is trusted


def test_of_several_keyrings_only_one_that_keeps_secrets_sealed_is_used(chosen: None) -> None:
    keyring.set_keyring(chain(Scribbled, Plain))
    assert system_keyring() is None
    keyring.set_keyring(chain(Scribbled, Sealed, Plain))
    assert type(system_keyring()) is Sealed


def test_a_keyring_that_cannot_say_what_it_is_is_none(chosen: None) -> None:
    keyring.set_keyring(type("Broken", (ChainerBackend,), {"priority": 10.0, "backends": None})())
    assert system_keyring() is None


async def test_a_keyring_that_keeps_nothing_is_noticed_before_a_secret_is_lost(tmp_path: Path) -> None:
    async with open_rig(tmp_path, source=Source.KEYRING, keyring=Forgetful()) as rig:
        with pytest.raises(WrongState, match="did not keep"):
            await rig.put("prod/x", value="canary value")
        assert rig.database.read("SELECT * FROM vault_master") == []
