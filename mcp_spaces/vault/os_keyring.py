"""A master key in the OS keyring, and the next one under another name beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from importlib import import_module
from threading import Lock, Thread
from typing import Any, Final, Protocol, TypeVar, cast

from mcp_spaces.errors import WrongState
from mcp_spaces.vault.cipher import MasterKey, master_key_of

SERVICE: Final = "mcp-spaces"
NEXT: Final = ".next"
ANSWER_S: Final = 20.0
"""How long a keyring may take: one that is locked asks on the desktop, where maybe nobody sits."""

T = TypeVar("T")


class Keyring(Protocol):
    """The part of the `keyring` library that is used."""

    def get_password(self, service: str, name: str) -> str | None: ...

    def set_password(self, service: str, name: str, password: str) -> None: ...

    def delete_password(self, service: str, name: str) -> None: ...


def system_keyring() -> Keyring | None:
    """The OS's keyring, or None where there is none that keeps secrets sealed. May wait for D-Bus."""
    try:
        found = import_module("keyring").get_keyring()
        # Where there are several it is a chain of them, which says of itself that it is better than each.
        is_chain = isinstance(found, import_module("keyring.backends.chainer").ChainerBackend)
        sealed = [one for one in (found.backends if is_chain else [found]) if _is_sealed(one)]
    except Exception:  # noqa: BLE001 - backends raise whatever their desktops do
        return None
    return cast(Keyring, sealed[0]) if sealed else None


def _is_sealed(backend: Any) -> bool:
    return backend.priority >= 1 and not type(backend).__module__.startswith("keyrings.alt")


class Patience:
    """For questions that may never be answered. One at a time: an order that is carried out late would undo what was
    done since."""

    def __init__(self, answer_s: float) -> None:
        self._answer_s = answer_s
        self._turn = Lock()
        self._is_late = False

    def answered(self, question: Callable[[], T]) -> T:
        """Blocks. Raises WrongState where there is no answer in time, at once for as long as an earlier question has had
        none; and what the question raises."""
        if not self._turn.acquire(timeout=0 if self._is_late else self._answer_s):
            raise _no_answer()
        self._is_late = False
        asking: Future[T] = Future()

        def ask() -> None:
            try:
                asking.set_result(question())
            except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
                asking.set_exception(error)
            finally:
                self._turn.release()

        # None of anyio's threads: those are waited for when a caller goes away, and at the end of the process.
        Thread(target=ask, name="OS keyring", daemon=True).start()
        wait([asking], self._answer_s)
        if not asking.done():
            self._is_late = True
            raise _no_answer()
        return asking.result()


def _no_answer() -> WrongState:
    return WrongState(
        "The OS keyring does not answer.",
        hint="It may be asking for its password on the desktop: unlock it, then repeat; or use another source: file.",
    )


class KeyInKeyring:
    """All methods block, and raise WrongState: there is no keyring, it refuses or does not answer, or what it holds is no
    key."""

    def __init__(self, instance_id: str, keyring: Callable[[], Keyring | None], *, answer_s: float = ANSWER_S) -> None:
        self._name = instance_id
        self._next = instance_id + NEXT
        self._keyring = keyring
        self._patience = Patience(answer_s)

    @property
    def where(self) -> str:
        return f"the OS keyring, service {SERVICE}, name {self._name}"

    def is_there(self) -> bool:
        return self._patience.answered(self._keyring) is not None

    def current(self) -> MasterKey | None:
        return self._stored(self._name)

    def both(self) -> Iterator[MasterKey]:
        """Those that are there, the current one first; the next one is not looked at before it is asked for."""
        return (found for name in (self._name, self._next) if (found := self._stored(name)) is not None)

    def stage(self, master: MasterKey) -> None:
        """As the next one. Raises WrongState also where the keyring did not keep it."""
        self._store(self._next, master)

    def settle(self, master_id: str) -> None:
        """The next one takes the current one's place if it is `master_id`; else it goes. May be repeated."""
        staged = self._stored(self._next)
        if staged is None:
            return
        if staged.id == master_id:
            self._store(self._name, staged)
        self._forget(self._next)

    def remove(self, master_id: str) -> None:
        """Only that very key: the current one, or a next one that did not get into its place."""
        for name in (self._name, self._next):
            kept = self._stored(name)
            if kept is not None and kept.id == master_id:
                self._forget(name)

    def _stored(self, name: str) -> MasterKey | None:
        text = self._asked(lambda keyring: keyring.get_password(SERVICE, name))
        return None if text is None else master_key_of(text, where=self.where)

    def _store(self, name: str, master: MasterKey) -> None:
        text = master.key.hex()
        self._asked(lambda keyring: keyring.set_password(SERVICE, name, text))
        if self._asked(lambda keyring: keyring.get_password(SERVICE, name)) != text:
            raise WrongState("The OS keyring did not keep the key.", hint="Use another source: --to file")

    def _forget(self, name: str) -> None:
        if self._asked(lambda keyring: keyring.get_password(SERVICE, name)) is not None:
            self._asked(lambda keyring: keyring.delete_password(SERVICE, name))

    def _asked(self, question: Callable[[Keyring], str | None]) -> str | None:
        def ask() -> str | None:
            keyring = self._keyring()
            if keyring is None:
                raise WrongState(
                    "No OS keyring can be used here.", hint="Start the daemon inside of the desktop session."
                )
            return question(keyring)

        try:
            return self._patience.answered(ask)
        except WrongState:
            raise
        except Exception:  # noqa: BLE001 - backends raise whatever their desktops do, with who knows what in the text
            raise WrongState(
                "The OS keyring refused.", hint="Unlock it, then repeat; or use another source: --to file"
            ) from None
