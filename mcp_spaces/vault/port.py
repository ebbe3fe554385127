"""What other rooms may ask of the vault: the gateway, the browser, and references in a sandbox's environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.scope import VaultGrant
from mcp_spaces.state.transaction import Transaction
from mcp_spaces.vault.model import Bindings, Code, Entry, Opened, RawSecret


class Secrets(Protocol):
    """Deciding by policy (`core.policy.decide` over `SecretFacts`) is the caller's part, before it asks here."""

    on_changed: list[Callable[[], None]]
    """Each is called when secrets were stored anew or deleted, before whoever did it hears so. They neither wait nor
    fail. Only this withdraws what `find` said: from the first use on a vault stays open, and no secret expires."""

    async def find(self, path: str, *, scope: VaultGrant) -> Entry:
        """What is known without opening, bindings included: check those, and policy, before `open`.

        Raises NotFound, with one text for what is not there and what `scope` does not permit (threat V08);
        WrongState when the vault cannot be opened.
        """

    async def bound_to(self, host: str, *, scope: VaultGrant) -> Sequence[Bindings]:
        """Of every secret that `scope` permits and that may go to `host` over TLS, at whatever port. Opens nothing.
        Raises WrongState when the vault cannot be opened."""

    async def open(
        self, path: str, *, scope: VaultGrant, purpose: SecretUse, run_id: str, origin: str | None = None
    ) -> Opened:
        """Open a secret for one purpose. The use is on the disk, in the audit log and in the run, before it returns.

        `origin` is where it goes (`https://host[:port]`, as truly contacted): needed for every purpose but a raw
        read, and it has to be one of the entry's own. The caller has its redactor learn what it reveals.

        Raises NotFound as `find` does; Denied for another origin, for a raw read outside of `scope.allow_raw_reads`,
        and for a one-time seed (see `Vault.code`); WrongState when the vault cannot be opened, or was changed.
        """

    async def read_raw(self, path: str, field: str | None, *, scope: VaultGrant, run_id: str) -> RawSecret:
        """One field as it is; without a name, the kind's main one. Opened, and recorded, as `open` says.

        Raises also Denied for a seed and for a value that is too short to be redacted, WrongState where there is no
        such field.
        """

    async def code(self, path: str, *, scope: VaultGrant, run_id: str, origin: str | None = None) -> Code:
        """A one-time code that was not given out before: it may take until the seed's next time step, 30 s mostly.

        `origin` is where it is filled in, one of the entry's own (threat B16); None: the caller is shown it.

        Raises NotFound, Denied (another origin), WrongState (no seed, or a clock that went backwards) or Busy.
        """


class Again(Protocol):
    """Seals a box anew, under the data key that a rotation brings."""

    def __call__(self, box: bytes, *, label: str) -> bytes:
        """Raises WrongState as `Boxes.unseal` does."""


class Boxes(Protocol):
    """Keys of other rooms, sealed as secrets are. A rotation of the vault's data key asks the rooms in `on_rotation`
    to seal theirs anew, in its own transaction; what a room leaves out opens no more."""

    on_rotation: list[Callable[[Transaction, Again], int]]
    """Each returns how many boxes it sealed anew."""

    async def seal(self, content: bytes, *, label: str) -> bytes:
        """`label` says what it is and whose; another one does not open it. Whoever stores it awaits nothing before: a
        rotation in between would leave it out. Raises WrongState."""

    async def unseal(self, stored: Callable[[], bytes | None], *, label: str) -> bytes | None:
        """`stored` reads the box, while no rotation can seal it anew.

        None where there is no box, and for one of another label, another data key or with changed bytes. Raises
        WrongState where the vault cannot be opened: nothing is known of the box then.
        """
