"""Which of the OS's keyrings is trusted with a master key, and what becomes of one that cannot be."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.backends.chainer import ChainerBackend

from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import MasterKey
from mcp_spaces.vault.master_record import Source
from mcp_spaces.vault.os_keyring import KeyInKeyring, system_keyring
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
        with pytest.raises(WrongState, match="cannot be kept") as refused:
            await rig.put("prod/x", value="canary value")
        assert refused.value.for_operator is not None and "did not keep" in refused.value.for_operator.message
        assert rig.database.read("SELECT * FROM vault_master") == []


class AsksOnTheDesktop(MemoryKeyring):
    """Answers once somebody has typed what it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.typed = threading.Event()

    def _check(self) -> None:
        self.asked += 1
        self.typed.wait()


def test_a_keyring_that_waits_for_somebody_holds_nobody_and_is_asked_no_second_thing_meanwhile() -> None:
    keyring = AsksOnTheDesktop()
    kept = KeyInKeyring("in_test", lambda: keyring, answer_s=0.05)
    with pytest.raises(WrongState, match="does not answer"):
        kept.current()
    # Whoever comes now is not kept waiting in turn.
    kept._patience._answer_s = 3_600
    with pytest.raises(WrongState, match="does not answer"):
        kept.current()
    # An order that came late would write over what was stored since.
    with pytest.raises(WrongState, match="does not answer"):
        kept.stage(MasterKey(b"1" * 32))
    with pytest.raises(WrongState, match="does not answer"):
        kept.is_there()
    assert keyring.asked == 1
    keyring.typed.set()
    patient = KeyInKeyring("in_test", lambda: keyring)
    patient.stage(MasterKey(b"1" * 32))
    found = None
    while found is None:
        with suppress(WrongState):
            found = list(kept.both())
    assert found == [MasterKey(b"1" * 32)]


def never() -> None:
    threading.Event().wait()


def test_a_desktop_without_an_answer_is_not_one_without_a_keyring() -> None:
    kept = KeyInKeyring("in_test", never, answer_s=0.05)
    with pytest.raises(WrongState, match="does not answer"):
        kept.is_there()


ENDS = """
import threading
from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import MasterKey
from mcp_spaces.vault.os_keyring import KeyInKeyring
try:
    KeyInKeyring("in_test", lambda: threading.Event().wait() and None, answer_s=0.05).current()
except WrongState:
    print("asked")
"""


def test_a_process_ends_although_its_keyring_never_answered() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "asked\n"


def test_two_that_ask_at_a_time_are_both_answered() -> None:
    keyring = AsksOnTheDesktop()
    keyring.kept["mcp-spaces", "in_test"] = "ab" * 32
    kept = KeyInKeyring("in_test", lambda: keyring)
    found: list[MasterKey | None] = []
    asking = [threading.Thread(target=lambda: found.append(kept.current()), daemon=True) for _ in range(2)]
    for one in asking:
        one.start()
    while not keyring.asked:
        pass
    keyring.typed.set()
    for one in asking:
        one.join()
    assert found == [MasterKey(b"\xab" * 32)] * 2
