"""Space rows: who sees them, and every change in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcp_spaces.core.caller import Caller, Role
from mcp_spaces.core.place import DEFAULT_SPACE, RuntimePlace, SpacePlace
from mcp_spaces.core.policy import Policy, policy_from
from mcp_spaces.errors import Ambiguous, NotFound, QuotaExceeded
from mcp_spaces.spaces.model import PolicyChoice, Runtime, RuntimeState, Space
from mcp_spaces.spaces.port import Runtimes
from mcp_spaces.spaces.quotas import check_room
from mcp_spaces.state.database import Database
from mcp_spaces.state.remembered import Remembered
from mcp_spaces.state.sealed import seal, unseal
from mcp_spaces.state.transaction import Row, Transaction

TABLE = "spaces"
LIST_LIMIT = 1000
POLICIES_MOST = 256
"""Policies kept ready. Where there are more, all are made anew: agents choose the overrides of their spaces."""
REASON_CHARACTERS = 500
"""Of why a runtime is stopped or failed."""
NEWEST = 64
"""Calls that are looked at for when a space was used: a call may end long after others that began later."""


class SpaceStore:
    """Implements `Spaces` and, for the pipeline, `Places`."""

    def __init__(self, database: Database, runtimes: Runtimes) -> None:
        self._database = database
        self._runtimes = runtimes
        self._policies: dict[str, Policy] = {}
        self._by_id = Remembered(database, self._stored)
        self._named = Remembered(database, self._asked_for)

    def get(self, space_id: str) -> Space | None:
        return self._by_id(space_id)

    def may_see(self, caller: Caller, space_id: str) -> bool:
        space = self.get(space_id)
        return space is not None and _is_visible(caller, space)

    def visible(self, caller: Caller, *, after: str = "", limit: int = LIST_LIMIT) -> list[Space]:
        """The spaces that this caller may know of, by id, `after` an id."""
        sql, parameters = self._visibility(caller)
        rows = self._database.read(
            f"SELECT id, body, mac FROM spaces WHERE id > ? AND {sql} ORDER BY id LIMIT ?",  # noqa: S608 - fixed text
            (after, *parameters, limit),
        )
        return [space for space in map(self._unsealed, rows) if _is_visible(caller, space)]

    def resolve(self, caller: Caller, reference: str) -> Space:
        """By id, by a name that is unique among what the caller sees, or `default`. Raises NotFound or Ambiguous."""
        asked = self._named((reference, *self._visibility(caller)))
        found = [one for one in asked if reference in (one.id, one.name) and _is_visible(caller, one)]
        if not found and reference == DEFAULT_SPACE:
            found = self.visible(caller, limit=10)
            if not found:
                raise NotFound("You have no space yet.", hint="Make one: space_create name=work")
        exact = [space for space in found if space.id == reference]
        if exact:
            return exact[0]
        if not found:
            raise NotFound("No such space.", hint="space_list shows the spaces that you can see.")
        if len(found) > 1:
            ids = ", ".join(f"{space.id} ({_told(caller, space, among=found)})" for space in found)
            named = any(space.name == reference for space in found)
            said = f"{reference!r} fits several spaces." if named else "No space was named, and there are several."
            raise Ambiguous(said, hint=f"Name one by its id: {ids}")
        return found[0]

    def space(self, caller: Caller, reference: str) -> SpacePlace:
        space = self.resolve(caller, reference)
        return SpacePlace(
            id=space.id,
            name=space.name,
            role=self.role(caller, space),
            running=space.state == "running",
            ceiling=space.ceiling,
            policy=self.policy(space.requested.policy),
            version=space.version,
        )

    def runtime(self, space: SpacePlace, reference: str | None, *, operation_id: str, active: bool) -> RuntimePlace:
        kind = "browser" if operation_id.startswith("browser.") else "sandbox"
        runtimes = [one for one in self._runtimes.of_space(space.id) if one.kind == kind]
        found = [one for one in runtimes if reference is None or reference in (one.id, one.alias)]
        if not found:
            known = ", ".join(one.alias for one in runtimes)
            raise NotFound(
                f"No such {kind} in space {space.name}.",
                hint=f"There are: {known}." if known else f"Launch one: {kind}_launch space={space.id}",
            )
        if active and len(found) > 1:
            # Nobody means one that this could not be done in.
            found = [one for one in found if one.holds] or found
        if len(found) > 1:
            names = ", ".join(one.alias if one.state == "active" else f"{one.alias} ({one.state})" for one in found)
            kinds = "browsers" if kind == "browser" else "sandboxes"
            raise Ambiguous(f"The space has several {kinds}.", hint=f"Name one as `runtime`: {names}")
        return RuntimePlace(found[0].id, found[0].alias, found[0].kind, found[0].ceiling)

    def policy(self, choice: PolicyChoice) -> Policy:
        """The policy that a choice means; the same object for the same choice, as long as it is kept."""
        key = choice.model_dump_json()
        # Asked in transactions too, in the writer's thread.
        known = self._policies.get(key)
        if known is None:
            if len(self._policies) >= POLICIES_MOST:
                self._policies.clear()
            known = self._policies[key] = policy_from(choice.preset, choice.overrides)
        return known

    @staticmethod
    def role(caller: Caller, space: Space) -> Role:
        if caller.operator:
            return Role.ADMIN
        return Role.OWNER if space.owner_id == caller.principal_id else Role.AGENT

    async def add(self, space: Space, *, most: int) -> None:
        """Raises QuotaExceeded when the owner has `most` spaces already."""

        def change(tx: Transaction) -> None:
            (owned,) = tx.execute("SELECT count(*) FROM spaces WHERE owner_id = ?", (space.owner_id,)).fetchone()
            if owned >= most:
                raise QuotaExceeded(f"You own {owned} spaces, which is the limit.", hint="Delete one: space_delete")
            self._store(tx, space)

        await self._database.write(change)

    async def change(self, space_id: str, change: Callable[[Space], Space]) -> Space:
        """Read, change and store in one transaction. Raises NotFound; whatever `change` raises undoes it."""

        def in_transaction(tx: Transaction) -> Space:
            row = tx.one("SELECT id, body, mac FROM spaces WHERE id = ?", (space_id,))
            if row is None:
                raise NotFound("No such space.", hint="space_list shows the spaces that you can see.")
            changed = change(self._unsealed(row))
            self._store(tx, changed)
            return changed

        return await self._database.write(in_transaction)

    async def remove(self, space_id: str) -> None:
        """The row and what belongs to it; records and the audit chain stay."""
        await self._database.write(lambda tx: tx.execute("DELETE FROM spaces WHERE id = ?", (space_id,)))

    def expiries(self, *, until: float) -> list[tuple[str, float]]:
        """Ids and times of the spaces that expire by then, the first one first."""
        rows = self._database.read(
            "SELECT id, expires_at FROM spaces WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (until, LIST_LIMIT)
        )
        return [(row["id"], row["expires_at"]) for row in rows]

    def last_used_at(self, space_id: str) -> float | None:
        """When the last of its newest calls ended, or a background job that one of them began."""
        row = self._database.read_one(
            "WITH newest AS (SELECT id, coalesce(ended_at, started_at) AS at FROM runs WHERE space_id = ?"
            " ORDER BY seq DESC LIMIT ?) SELECT max(at) AS at FROM (SELECT at FROM newest UNION ALL"
            " SELECT events.at FROM newest JOIN events ON run_id = id WHERE type = 'job.ended')",
            (space_id, NEWEST),
        )
        return None if row is None else row["at"]

    def running_ids(self) -> list[str]:
        return [row["id"] for row in self._database.read("SELECT id FROM spaces WHERE state = 'running' ORDER BY id")]

    def _stored(self, space_id: str) -> Space | None:
        row = self._database.read_one("SELECT id, body, mac FROM spaces WHERE id = ?", (space_id,))
        return None if row is None else self._unsealed(row)

    def _asked_for(self, asked: tuple[str, str, tuple[object, ...]]) -> list[Space]:
        """Those that a reference may mean, among what `_visibility` shows."""
        reference, sql, parameters = asked
        rows = self._database.read(
            f"SELECT id, body, mac FROM spaces WHERE (id = ? OR name = ?) AND {sql} ORDER BY id LIMIT 10",  # noqa: S608
            (reference, reference, *parameters),
        )
        return [self._unsealed(row) for row in rows]

    def _unsealed(self, row: Row) -> Space:
        return unseal(self._database.sealer, TABLE, row, Space)

    def _visibility(self, caller: Caller) -> tuple[str, tuple[object, ...]]:
        if caller.spaces is not None:
            marks = ", ".join("?" * len(caller.spaces))
            return f"id IN ({marks})", tuple(sorted(caller.spaces))
        if caller.operator:
            return "1", ()
        return "owner_id = ?", (caller.principal_id,)

    def _store(self, tx: Transaction, space: Space) -> None:
        body, mac = seal(self._database.sealer, TABLE, space.id, space)
        tx.execute(
            "INSERT INTO spaces (id, name, owner_id, state, expires_at, body, mac) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, state = excluded.state,"
            " expires_at = excluded.expires_at, body = excluded.body, mac = excluded.mac",
            (space.id, space.name, space.owner_id, space.state, space.expires_at, body, mac),
        )


def _is_visible(caller: Caller, space: Space) -> bool:
    """By what is sealed: the columns that found it are not (threat K11)."""
    if caller.spaces is not None:
        return space.id in caller.spaces
    return caller.operator or space.owner_id == caller.principal_id


def _told(caller: Caller, space: Space, *, among: Sequence[Space]) -> str:
    """The name, and whose it is where that tells them apart."""
    if len({one.owner_id for one in among}) == 1:
        return space.name
    whose = "yours" if space.owner_id == caller.principal_id else "another's"
    return f"{space.name}, {whose}"


class RuntimeStore:
    """Implements `Runtimes`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id = Remembered(database, self._stored)
        self._by_space = Remembered(database, self._stored_of)

    async def add(self, runtime: Runtime, *, space_version: int) -> Runtime:
        def change(tx: Transaction) -> Runtime:
            check_room(tx, self._database.sealer, runtime, space_version=space_version)
            self._store(tx, runtime)
            return runtime

        return await self._database.write(change)

    async def change(self, runtime_id: str, change: Callable[[Runtime], Runtime]) -> Runtime:
        return await self._database.write(lambda tx: self._changed(tx, runtime_id, change))

    async def reactivate(self, runtime_id: str, change: Callable[[Runtime], Runtime]) -> Runtime:
        def in_transaction(tx: Transaction) -> Runtime:
            changed = self._changed(tx, runtime_id, change)
            check_room(tx, self._database.sealer, changed, space_version=None)
            return changed

        return await self._database.write(in_transaction)

    async def set_state(self, runtime_id: str, state: RuntimeState, *, reason: str) -> Runtime:
        return await self.change(runtime_id, lambda row: _turned(row, state, reason))

    async def fail(self, runtime_id: str, *, reason: str) -> None:
        await self.change(runtime_id, lambda row: _turned(row, RuntimeState.FAILED, reason) if row.holds else row)

    async def remove(self, runtime_id: str) -> None:
        await self._database.write(lambda tx: tx.execute("DELETE FROM runtimes WHERE id = ?", (runtime_id,)))

    def get(self, runtime_id: str) -> Runtime | None:
        return self._by_id(runtime_id)

    def of_space(self, space_id: str, *, kind: str | None = None) -> list[Runtime]:
        return [one for one in self._by_space(space_id) if kind is None or one.kind == kind]

    def all(self, *, kind: str) -> list[Runtime]:
        rows = self._database.read("SELECT id, body, mac FROM runtimes WHERE kind = ? ORDER BY rowid", (kind,))
        return [unseal(self._database.sealer, "runtimes", row, Runtime) for row in rows]

    def _stored(self, runtime_id: str) -> Runtime | None:
        row = self._database.read_one("SELECT id, body, mac FROM runtimes WHERE id = ?", (runtime_id,))
        return None if row is None else unseal(self._database.sealer, "runtimes", row, Runtime)

    def _stored_of(self, space_id: str) -> list[Runtime]:
        rows = self._database.read("SELECT id, body, mac FROM runtimes WHERE space_id = ? ORDER BY rowid", (space_id,))
        found = [unseal(self._database.sealer, "runtimes", row, Runtime) for row in rows]
        return [one for one in found if one.space_id == space_id]

    def _changed(self, tx: Transaction, runtime_id: str, change: Callable[[Runtime], Runtime]) -> Runtime:
        row = tx.one("SELECT id, body, mac FROM runtimes WHERE id = ?", (runtime_id,))
        if row is None:
            raise NotFound("No such runtime.", hint="sandbox_list shows what there is.")
        changed = change(unseal(self._database.sealer, "runtimes", row, Runtime))
        self._store(tx, changed)
        return changed

    def _store(self, tx: Transaction, runtime: Runtime) -> None:
        body, mac = seal(self._database.sealer, "runtimes", runtime.id, runtime)
        tx.execute(
            "INSERT INTO runtimes (id, space_id, kind, alias, state, body, mac) VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body, mac = excluded.mac",
            (runtime.id, runtime.space_id, runtime.kind, runtime.alias, runtime.state, body, mac),
        )


def _turned(runtime: Runtime, state: RuntimeState, reason: str) -> Runtime:
    return runtime.model_copy(update={"state": state, "reason": reason[:REASON_CHARACTERS]})
