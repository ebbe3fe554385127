"""Where the master key comes from: the environment, a passphrase, the OS keyring, or a file of mode 0600.

Keyring and file hold a *current* key, and a *next* one while the vault is given another. Which of them counts is what
the database says in one transaction; so a kill at any instant leaves exactly one key that opens the vault, and the
next start puts it in its place (threat V16).
"""

from __future__ import annotations

import binascii
import ctypes
import os
import stat
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from pydantic import BaseModel, ConfigDict, Field

from mcp_spaces.errors import InvalidInput, WrongState
from mcp_spaces.vault.cipher import KEY_BYTES, MasterKey, new_master_key

KEY_VARIABLE: Final = "MCP_SPACES_MASTER_KEY"
NEXT_KEY_VARIABLE: Final = "MCP_SPACES_NEXT_MASTER_KEY"
PASSPHRASE_VARIABLE: Final = "MCP_SPACES_PASSPHRASE"  # noqa: S105 - a name
NEXT_PASSPHRASE_VARIABLE: Final = "MCP_SPACES_NEXT_PASSPHRASE"  # noqa: S105 - a name
FILE_NAME: Final = "master.key"
NEXT: Final = ".next"
SERVICE: Final = "mcp-spaces"
PASSPHRASE_CHARACTERS_MIN: Final = 12


class Source(StrEnum):
    KEYRING = "keyring"
    FILE = "file"
    ENVIRONMENT = "environment"
    PASSPHRASE = "passphrase"  # noqa: S105 - a name


class Stretching(BaseModel):
    """Argon2id's parameters, stored with the vault. Weaker ones are refused, whoever wrote them (threat V15)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    salt: str = Field(pattern=r"^[0-9a-f]{32,128}$")
    memory_kib: int = Field(default=64 * 1024, ge=19 * 1024, le=4 * 1024 * 1024)
    iterations: int = Field(default=3, ge=2, le=100)
    lanes: int = Field(default=4, ge=1, le=64)


class Previous(BaseModel):
    """A master key that counts no more and may still be where it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    master_id: str


class MasterRecord(BaseModel):
    """Which master key wraps the data key now, and where it is. `previous` until that one is removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    master_id: str
    stretching: Stretching | None = None
    previous: Previous | None = None


class Keyring(Protocol):
    """The part of the `keyring` library that is used."""

    def get_password(self, service: str, name: str) -> str | None: ...

    def set_password(self, service: str, name: str, password: str) -> None: ...

    def delete_password(self, service: str, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Given:
    """What the environment held, taken out of it."""

    key: str | None = field(default=None, repr=False)
    next_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    next_passphrase: str | None = field(default=None, repr=False)


def taken_from(environment: MutableMapping[str, str]) -> Given:
    """Read the four variables once and remove them, also from what /proc shows of this process (threat V14)."""
    names = (KEY_VARIABLE, NEXT_KEY_VARIABLE, PASSPHRASE_VARIABLE, NEXT_PASSPHRASE_VARIABLE)
    values = [environment.get(name) or None for name in names]
    for name in names:
        if name in environment:
            if environment is os.environ:
                _erase(name)
            del environment[name]
    return Given(*values)


def _erase(name: str) -> None:
    library = ctypes.CDLL(None)
    library.getenv.restype = ctypes.c_void_p
    address = library.getenv(name.encode())
    if address:
        ctypes.memset(address, 0, len(ctypes.string_at(address)))


def system_keyring() -> Keyring | None:
    """The OS's keyring, or None where there is none that keeps secrets sealed. May wait for D-Bus."""
    try:
        backend = import_module("keyring").get_keyring()
        usable = backend.priority >= 1 and not type(backend).__module__.startswith("keyrings.alt")
    except Exception:  # noqa: BLE001 - backends raise whatever their desktops do
        return None
    return cast(Keyring, backend) if usable else None


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
        self._file = state_dir / FILE_NAME
        self._instance_id = instance_id
        self._given = given
        self._preferred = preferred
        self._keyring = keyring

    def choose(self) -> Source:
        """Where a new vault's key goes: where the operator said, else by what is there."""
        if self._preferred is not None:
            return self._preferred
        if self._given.key is not None:
            return Source.ENVIRONMENT
        if self._given.passphrase is not None:
            return Source.PASSPHRASE
        return Source.FILE if self._keyring() is None else Source.KEYRING

    def where(self, source: Source) -> str:
        match source:
            case Source.KEYRING:
                return f"the OS keyring, service {SERVICE}, name {self._instance_id}"
            case Source.FILE:
                return str(self._file)
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
        previous = Previous(source=before.source, master_id=before.master_id)
        return replace(staged, record=staged.record.model_copy(update={"previous": previous}))

    def _staged(self, source: Source, *, first: bool) -> Staged:
        match source:
            case Source.ENVIRONMENT:
                text = self._given.key if first else self._given.next_key
                name = KEY_VARIABLE if first else NEXT_KEY_VARIABLE
                if text is None:
                    raise _absent(name)
                master = _parsed(text, where=name)
                return Staged(master, MasterRecord(source=source, master_id=master.id))
            case Source.PASSPHRASE:
                text = self._given.passphrase if first else self._given.next_passphrase
                if text is None:
                    raise _absent(PASSPHRASE_VARIABLE if first else NEXT_PASSPHRASE_VARIABLE)
                stretching = Stretching(salt=os.urandom(16).hex())
                master = stretched(text, stretching)
                return Staged(master, MasterRecord(source=source, master_id=master.id, stretching=stretching))
            case Source.KEYRING | Source.FILE:
                kept = self._kept(source) if first else None
                master = kept or new_master_key()
                if kept is None and source is Source.FILE:
                    _write(self._file.with_name(FILE_NAME + NEXT), master)
                elif kept is None:
                    self._store(self._instance_id + NEXT, master)
                return Staged(master, MasterRecord(source=source, master_id=master.id))

    def _kept(self, source: Source) -> MasterKey | None:
        """A key without a vault may belong to a database that will be restored: it is used again, never replaced."""
        return _read(self._file) if source is Source.FILE else self._stored(self._instance_id)

    def load(self, record: MasterRecord) -> MasterKey:
        """The key that the database says counts. Raises WrongState where it is not to be had."""
        for found in self._candidates(record):
            if found.id == record.master_id:
                return found
        raise WrongState(
            f"The vault's master key is not in {self.where(record.source)}.",
            hint="Put it back and restart the daemon. Without it the vault's secrets are lost.",
        )

    def settle(self, record: MasterRecord) -> MasterRecord:
        """Put the key that counts in its place and remove the others. May be repeated.

        Returns the record, without its `previous` once that key is gone. Raises WrongState: the key stays where it is.
        """
        following = self._file.with_name(FILE_NAME + NEXT)
        try:
            if record.source is Source.FILE:
                staged = _read(following)
                if staged is not None and staged.id == record.master_id:
                    following.replace(self._file)
            for left in (following, _partial(following)):
                left.unlink(missing_ok=True)
            _sync_folder(self._file.parent)
        except OSError as error:
            raise WrongState(
                f"The master key cannot be put into {self._file}: {error.strerror}.", hint="Mend it, then repeat."
            ) from None
        if record.source is Source.KEYRING:
            self._settle_keyring(record)
        if record.previous is None:
            return record
        try:
            self._remove(record.previous, now_in=record.source)
        except (WrongState, OSError):
            # It opens nothing any more; the next start tries again.
            return record
        return record.model_copy(update={"previous": None})

    def _remove(self, previous: Previous, *, now_in: Source) -> None:
        """Only the very key, and only where the one that counts did not take its place."""
        if previous.source is now_in:
            return
        if previous.source is Source.FILE:
            kept = _read(self._file)
            if kept is not None and kept.id == previous.master_id:
                self._file.unlink()
                _sync_folder(self._file.parent)
        elif previous.source is Source.KEYRING:
            kept = self._stored(self._instance_id)
            if kept is not None and kept.id == previous.master_id:
                self._forget(self._instance_id)

    def _candidates(self, record: MasterRecord) -> list[MasterKey]:
        match record.source:
            case Source.ENVIRONMENT:
                given = (self._given.key, self._given.next_key)
                return [_parsed(text, where=KEY_VARIABLE) for text in given if text is not None]
            case Source.PASSPHRASE:
                if record.stretching is None:
                    return []
                phrases = (self._given.passphrase, self._given.next_passphrase)
                return [stretched(text, record.stretching) for text in phrases if text is not None]
            case Source.KEYRING:
                names = (self._instance_id, self._instance_id + NEXT)
                return [found for name in names if (found := self._stored(name)) is not None]
            case Source.FILE:
                files = (self._file, self._file.with_name(FILE_NAME + NEXT))
                return [found for path in files if (found := _read(path)) is not None]

    def _settle_keyring(self, record: MasterRecord) -> None:
        staged = self._stored(self._instance_id + NEXT)
        if staged is None:
            return
        if staged.id == record.master_id:
            self._store(self._instance_id, staged)
        self._forget(self._instance_id + NEXT)

    def _stored(self, name: str) -> MasterKey | None:
        text = self._asked(lambda keyring: keyring.get_password(SERVICE, name))
        return None if text is None else _parsed(text, where=self.where(Source.KEYRING))

    def _store(self, name: str, master: MasterKey) -> None:
        text = master.key.hex()
        self._asked(lambda keyring: keyring.set_password(SERVICE, name, text))
        if self._asked(lambda keyring: keyring.get_password(SERVICE, name)) != text:
            raise WrongState("The OS keyring did not keep the key.", hint="Use another source: --to file")

    def _forget(self, name: str) -> None:
        if self._asked(lambda keyring: keyring.get_password(SERVICE, name)) is not None:
            self._asked(lambda keyring: keyring.delete_password(SERVICE, name))

    def _asked(self, question: Callable[[Keyring], str | None]) -> str | None:
        keyring = self._keyring()
        if keyring is None:
            raise WrongState("No OS keyring can be used here.", hint="Start the daemon inside of the desktop session.")
        try:
            return question(keyring)
        except Exception:  # noqa: BLE001 - backends raise whatever their desktops do, with who knows what in the text
            raise WrongState(
                "The OS keyring refused.", hint="Unlock it, then repeat; or use another source: --to file"
            ) from None


def stretched(passphrase: str, stretching: Stretching) -> MasterKey:
    """Argon2id (RFC 9106). About half a second. Raises InvalidInput for a short passphrase."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    if len(passphrase) < PASSPHRASE_CHARACTERS_MIN:
        raise InvalidInput("The passphrase is too short.", hint=f"Use at least {PASSPHRASE_CHARACTERS_MIN} characters.")
    derivation = Argon2id(
        salt=bytes.fromhex(stretching.salt),
        length=KEY_BYTES,
        iterations=stretching.iterations,
        lanes=stretching.lanes,
        memory_cost=stretching.memory_kib,
    )
    return MasterKey(derivation.derive(passphrase.encode()))


def _parsed(text: str, *, where: str) -> MasterKey:
    try:
        return MasterKey(binascii.unhexlify(text.strip()))
    except ValueError:
        raise WrongState(
            f"What {where} holds is no master key.", hint="It has 64 hexadecimal digits: openssl rand -hex 32"
        ) from None


def _absent(name: str) -> WrongState:
    return WrongState(f"{name} is not set.", hint="Set it for the daemon and restart it; it is read once.")


def _read(path: Path) -> MasterKey | None:
    """Raises WrongState: not a file of ours that only we can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WrongState(f"{path} cannot be read: {error.strerror}.", hint="It has to be a plain file.") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise WrongState(
                f"{path} is not a file that only this user can read.", hint=f"Run: chmod 600 {path}, or make it yours."
            )
        text = os.read(descriptor, 1024)
    finally:
        os.close(descriptor)
    return _parsed(text.decode("ascii", "replace"), where=str(path))


def _write(path: Path, master: MasterKey) -> None:
    """Appears whole or not at all."""
    partial = _partial(path)
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(master.key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise WrongState(f"{path} cannot be written: {error.strerror}.", hint="Free space, or mend the disk.") from None


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
