"""Where the master key comes from: the environment, a passphrase, the OS keyring, or a file of mode 0600.

Keyring and file hold a *current* key, and a *next* one while the vault is given another. Which of them counts is what
the database says in one transaction; so a kill at any instant leaves exactly one key that opens the vault, and the
next start puts it in its place (threat V16).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import MasterKey, master_key_of, new_master_key
from mcp_spaces.vault.given_keys import (
    KEY_VARIABLE,
    NEXT_KEY_VARIABLE,
    NEXT_PASSPHRASE_VARIABLE,
    PASSPHRASE_VARIABLE,
    Given,
)
from mcp_spaces.vault.key_file import KeyFile
from mcp_spaces.vault.master_record import MasterRecord, Previous, Source
from mcp_spaces.vault.os_keyring import KeyInKeyring, Keyring, system_keyring
from mcp_spaces.vault.passphrase import Stretching, stretched

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Staged:
    """A master key in its place, before the database says that it counts."""

    master: MasterKey = field(repr=False)
    record: MasterRecord = field()


class MasterKeys:
    """All methods block; call them in a worker thread. `preferred` is the operator's setting, None: best there is."""

    def __init__(
        self,
        state_dir: Path,
        *,
        instance_id: str,
        given: Given,
        preferred: Source | None = None,
        keyring: Callable[[], Keyring | None] = system_keyring,
    ) -> None:
        self._in_file = KeyFile(state_dir)
        self._in_keyring = KeyInKeyring(instance_id, keyring)
        self._given = given
        self._preferred = preferred

    def choose(self) -> Source:
        """Where a new vault's key goes: where the operator said, else by what is there."""
        if self._preferred is not None:
            return self._preferred
        if self._given.key is not None:
            return Source.ENVIRONMENT
        if self._given.passphrase is not None:
            return Source.PASSPHRASE
        return Source.KEYRING if self._in_keyring.is_there() else Source.FILE

    def where(self, source: Source) -> str:
        match source:
            case Source.KEYRING:
                return self._in_keyring.where
            case Source.FILE:
                return self._in_file.where
            case Source.ENVIRONMENT:
                return KEY_VARIABLE
            case Source.PASSPHRASE:
                return f"a passphrase in {PASSPHRASE_VARIABLE}"

    def stage(self, source: Source, *, before: MasterRecord | None) -> Staged:
        """A key for `source`, kept there beside the one that counts: settle that first, since what was staged before
        is written over. `before` is its record; None: there is no vault yet.

        Raises WrongState or InvalidInput where the source cannot give or keep one.
        """
        staged = self._staged(source, first=before is None)
        if before is None:
            return staged
        previous = Previous(source=before.source, master_id=before.master_id, before=before.previous)
        return replace(staged, record=staged.record.model_copy(update={"previous": previous}))

    def load(self, record: MasterRecord) -> MasterKey:
        """The key that the database says counts. Raises WrongState where it is not to be had."""
        for found in self._candidates(record):
            if found.id == record.master_id:
                return found
        if record.source in (Source.ENVIRONMENT, Source.PASSPHRASE):
            variable = KEY_VARIABLE if record.source is Source.ENVIRONMENT else PASSPHRASE_VARIABLE
            raise WrongState(
                f"{variable} is not set for the daemon, or not to what it was when the vault got its key.",
                hint="Set it where the daemon is started, then run: mcp-spaces stop. The next client starts it again.",
            )
        raise WrongState(
            f"The vault's master key is not in {self.where(record.source)}.",
            hint="Put it back and restart the daemon. Without it the vault's secrets are lost.",
        )

    def settle(self, record: MasterRecord) -> MasterRecord:
        """Put the key that counts in its place and remove the others. May be repeated.

        Returns the record, without those of its `previous` that are gone. Raises WrongState: the key stays where it is.
        """
        self._in_file.settle(record.master_id if record.source is Source.FILE else None)
        if record.source is Source.KEYRING:
            self._in_keyring.settle(record.master_id)
        return record.model_copy(update={"previous": self._left(record.previous, now_in=record.source)})

    def _staged(self, source: Source, *, first: bool) -> Staged:
        match source:
            case Source.ENVIRONMENT:
                text = self._given.key if first else self._given.next_key
                name = KEY_VARIABLE if first else NEXT_KEY_VARIABLE
                if text is None:
                    raise _absent(name)
                master = master_key_of(text, where=name)
                return Staged(master, MasterRecord(source=source, master_id=master.id))
            case Source.PASSPHRASE:
                text = self._given.passphrase if first else self._given.next_passphrase
                if text is None:
                    raise _absent(PASSPHRASE_VARIABLE if first else NEXT_PASSPHRASE_VARIABLE)
                stretching = Stretching(salt=os.urandom(16).hex())
                master = stretched(text, stretching)
                return Staged(master, MasterRecord(source=source, master_id=master.id, stretching=stretching))
            case Source.KEYRING | Source.FILE:
                place = self._in_file if source is Source.FILE else self._in_keyring
                # A key without a vault may belong to a database that will be restored: it is used again, never
                # replaced.
                kept = place.current() if first else None
                master = kept or new_master_key()
                if kept is None:
                    place.stage(master)
                return Staged(master, MasterRecord(source=source, master_id=master.id))

    def _candidates(self, record: MasterRecord) -> Iterator[MasterKey]:
        """The current one first: where that is it, nobody cares for a next one, which may be none."""
        match record.source:
            case Source.ENVIRONMENT:
                for name, text in ((KEY_VARIABLE, self._given.key), (NEXT_KEY_VARIABLE, self._given.next_key)):
                    if text is not None:
                        yield master_key_of(text, where=name)
            case Source.PASSPHRASE:
                for text in (self._given.passphrase, self._given.next_passphrase):
                    if text is not None and record.stretching is not None:
                        yield stretched(text, record.stretching)
            case Source.KEYRING:
                yield from self._in_keyring.both()
            case Source.FILE:
                yield from self._in_file.both()

    def _left(self, previous: Previous | None, *, now_in: Source) -> Previous | None:
        """Those that cannot be removed now. They open nothing but older backups; the next start tries again."""
        if previous is None:
            return None
        before = self._left(previous.before, now_in=now_in)
        try:
            self._remove(previous, now_in=now_in)
        except (WrongState, OSError):
            log.warning("a former master key is still in %s, and could not be removed", self.where(previous.source))
            return previous.model_copy(update={"before": before})
        return before

    def _remove(self, previous: Previous, *, now_in: Source) -> None:
        """Only the very key, and only where the one that counts did not take its place."""
        if previous.source is now_in:
            return
        if previous.source is Source.FILE:
            self._in_file.remove(previous.master_id)
        elif previous.source is Source.KEYRING:
            self._in_keyring.remove(previous.master_id)


def _absent(name: str) -> WrongState:
    return WrongState(f"{name} is not set.", hint="Set it for the daemon and restart it; it is read once.")
