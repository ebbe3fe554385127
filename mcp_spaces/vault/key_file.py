"""A master key in a file of mode 0600, and the next one in another beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import MasterKey, master_key_of

FILE_NAME: Final = "master.key"
NEXT: Final = ".next"


class KeyFile:
    """All methods raise WrongState: what is there is not a file of ours that only we can read."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE_NAME
        self._next = folder / (FILE_NAME + NEXT)

    @property
    def where(self) -> str:
        return str(self._file)

    def current(self) -> MasterKey | None:
        return _read(self._file)

    def both(self) -> Iterator[MasterKey]:
        """Those that are there, the current one first; the next one is not looked at before it is asked for."""
        return (found for path in (self._file, self._next) if (found := _read(path)) is not None)

    def stage(self, master: MasterKey) -> None:
        """As the next one. Raises WrongState where it cannot be written."""
        _write(self._next, master)

    def settle(self, master_id: str | None) -> None:
        """The next one takes the current one's place if it is `master_id`; else it goes. May be repeated.

        Raises WrongState: it stays where it is.
        """
        try:
            if master_id is not None:
                staged = _read(self._next)
                if staged is not None and staged.id == master_id:
                    self._next.replace(self._file)
            for left in (self._next, _partial(self._next)):
                left.unlink(missing_ok=True)
            _sync_folder(self._file.parent)
        except OSError as error:
            raise WrongState(
                f"The master key cannot be put into {self._file}: {error.strerror}.", hint="Mend it, then repeat."
            ) from None

    def remove(self, master_id: str) -> None:
        """Only that very key, where it is the current one. Raises OSError too."""
        kept = _read(self._file)
        if kept is not None and kept.id == master_id:
            self._file.unlink()
            _sync_folder(self._file.parent)


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
    return master_key_of(text.decode("ascii", "replace"), where=str(path))


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
