"""Principals and keys in the database, and the callers that come out of them."""

from __future__ import annotations

from collections.abc import Callable

from mcp_spaces.core.caller import Caller, Kind
from mcp_spaces.core.ids import Clock, new_id
from mcp_spaces.core.policy import load_preset
from mcp_spaces.core.scope import EVERYTHING, Scope, narrow
from mcp_spaces.errors import NotFound, Unauthenticated
from mcp_spaces.identity.model import (
    AGENT_POLICY,
    AGENT_SCOPE,
    LOCAL_AGENT,
    OPERATOR,
    Key,
    Principal,
    parse_token,
    secret_matches,
)
from mcp_spaces.state.database import Database
from mcp_spaces.state.remembered import Remembered
from mcp_spaces.state.sealed import seal, unseal
from mcp_spaces.state.transaction import Transaction

KEYS_LISTED = 1_000


class Identity:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        # Of a local connection, for each of its calls.
        self._local_caller = Remembered(database, self._as_caller)

    async def ensure_defaults(self) -> None:
        """The two principals that every instance has: the operator and the local agent."""
        defaults = (
            (OPERATOR, Kind.PERSON, EVERYTHING, "permissive"),
            (LOCAL_AGENT, Kind.AGENT, AGENT_SCOPE, AGENT_POLICY),
        )
        for name, kind, scope, policy in defaults:
            if self.find(name) is None:
                await self.add(name, kind=kind, scope=scope, policy=policy)

    async def add(self, name: str, *, kind: Kind, scope: Scope, policy: str) -> Principal:
        """Raises Conflict when the name is taken."""
        principal = Principal(
            id=new_id("pr"), name=name, kind=kind, scope=scope, policy=policy, created_at=self._clock.now()
        )
        await self._database.write(lambda tx: self._store(tx, principal))
        return principal

    async def change(self, principal_id: str, change: Callable[[Principal], Principal]) -> Principal:
        """Read, change and store in one transaction, so that of two grants neither undoes the other. Raises NotFound."""

        def in_transaction(tx: Transaction) -> Principal:
            row = tx.one("SELECT id, body, mac FROM principals WHERE id = ?", (principal_id,))
            if row is None:
                raise _no_such_principal(principal_id)
            changed = change(unseal(self._database.sealer, "principals", row, Principal))
            self._store(tx, changed)
            return changed

        return await self._database.write(in_transaction)

    def find(self, reference: str) -> Principal | None:
        """By id or name."""
        row = self._database.read_one(
            "SELECT id, body, mac FROM principals WHERE id = ? OR name = ?", (reference, reference)
        )
        found = None if row is None else unseal(self._database.sealer, "principals", row, Principal)
        # The name beside what is sealed is not: one that was put there stands for nobody.
        return found if found is not None and reference in (found.id, found.name) else None

    def name_of(self, principal_id: str) -> str | None:
        row = self._database.read_one("SELECT name FROM principals WHERE id = ?", (principal_id,))
        return None if row is None else str(row["name"])

    def get(self, reference: str) -> Principal:
        principal = self.find(reference)
        if principal is None:
            raise _no_such_principal(reference)
        return principal

    def principals(self) -> list[Principal]:
        rows = self._database.read("SELECT id, body, mac FROM principals ORDER BY name LIMIT 1000")
        return [unseal(self._database.sealer, "principals", row, Principal) for row in rows]

    def operator(self) -> Caller:
        return self.caller(self.get(OPERATOR), operator=True)

    def local_agent(self) -> Caller:
        return self.caller(self.get(LOCAL_AGENT))

    def caller(self, principal: Principal, *, key: Key | None = None, operator: bool = False) -> Caller:
        scope, policy = principal.scope, load_preset(principal.policy)
        if key is None:
            return Caller(principal.id, principal.name, principal.kind, scope, policy, operator=operator)
        return Caller(
            principal.id,
            principal.name,
            principal.kind,
            scope if key.scope is None else narrow(scope, key.scope),
            policy,
            spaces=None if key.spaces is None else frozenset(key.spaces),
            operator=key.operator,
            key_id=key.id,
            expires_at=key.expires_at,
        )

    async def add_key(self, key: Key) -> None:
        await self._database.write(lambda tx: self._store_key(tx, key))

    async def revoke(self, key_id: str) -> Key:
        """From now on the key is nobody. Raises NotFound. Revoking again changes nothing."""
        now = self._clock.now()

        def change(tx: Transaction) -> Key:
            row = tx.one("SELECT id, body, mac FROM keys WHERE id = ?", (key_id,))
            if row is None:
                raise NotFound(f"No key {key_id!r}.", hint="List them with `mcp-spaces key list`.")
            key = unseal(self._database.sealer, "keys", row, Key)
            if key.revoked_at is None:
                key = key.model_copy(update={"revoked_at": now})
                self._store_key(tx, key)
            return key

        return await self._database.write(change)

    def all_keys(self) -> list[Key]:
        """The newest ones, oldest first."""
        rows = self._database.read("SELECT id, body, mac FROM keys ORDER BY rowid DESC LIMIT ?", (KEYS_LISTED,))
        return [unseal(self._database.sealer, "keys", row, Key) for row in reversed(rows)]

    def authenticate(self, token: str) -> Caller:
        """Raises Unauthenticated, with one text for every reason."""
        parsed = parse_token(token)
        key = None if parsed is None else self._key(parsed[0])
        secret = "" if parsed is None else parsed[1]
        if not secret_matches(secret, key) or key is None or not self._is_valid(key):
            raise Unauthenticated(
                "No valid key.",
                hint="Send `Authorization: Bearer msp_…`, or set MCP_SPACES_KEY over stdio; the operator makes one:"
                " mcp-spaces key create LABEL",
            )
        return self.caller(self.get(key.principal_id), key=key)

    def still_valid(self, caller: Caller) -> bool:
        """Whether the key behind a caller would be accepted now."""
        if caller.key_id is None:
            return True
        key = self._key(caller.key_id)
        return key is not None and self._is_valid(key)

    def current(self, caller: Caller) -> Caller:
        """The same caller with today's scope. Raises Unauthenticated when its key is gone."""
        if caller.key_id is None:
            return self._local_caller((caller.principal_id, caller.operator))
        key = self._key(caller.key_id)
        if key is None or not self._is_valid(key):
            raise Unauthenticated("The key is no longer valid.", hint="Ask the operator for a new one.")
        return self.caller(self.get(caller.principal_id), key=key)

    def _as_caller(self, who: tuple[str, bool]) -> Caller:
        principal_id, operator = who
        return self.caller(self.get(principal_id), operator=operator)

    def _is_valid(self, key: Key) -> bool:
        return key.revoked_at is None and (key.expires_at is None or key.expires_at > self._clock.now())

    def _key(self, key_id: str) -> Key | None:
        row = self._database.read_one("SELECT id, body, mac FROM keys WHERE id = ?", (key_id,))
        return None if row is None else unseal(self._database.sealer, "keys", row, Key)

    def _store(self, tx: Transaction, principal: Principal) -> None:
        body, mac = seal(self._database.sealer, "principals", principal.id, principal)
        tx.execute(
            "INSERT INTO principals (id, name, body, mac) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body, mac = excluded.mac",
            (principal.id, principal.name, body, mac),
        )

    def _store_key(self, tx: Transaction, key: Key) -> None:
        body, mac = seal(self._database.sealer, "keys", key.id, key)
        tx.execute(
            "INSERT INTO keys (id, principal_id, body, mac) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body, mac = excluded.mac",
            (key.id, key.principal_id, body, mac),
        )


def _no_such_principal(reference: str) -> NotFound:
    return NotFound(f"No principal {reference!r}.", hint="List them with `mcp-spaces principal list`; names are exact.")
