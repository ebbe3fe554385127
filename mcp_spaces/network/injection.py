"""Secrets for requests: judged by scope, binding and policy before anything is dialled, opened once the server has
proven who it is. Each use is on the disk before the value goes out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from mcp_spaces.core.approvals import Approval, Approvals, ApprovalState, fingerprint
from mcp_spaces.core.effect import Effect
from mcp_spaces.core.facts import SecretFacts, SecretUse
from mcp_spaces.core.policy import Allow, Ask, Decision, Deny, decide
from mcp_spaces.core.redaction import MINIMUM_LENGTH
from mcp_spaces.errors import Denied, NotFound, QuotaExceeded, SpacesError, WrongState
from mcp_spaces.network.model import (
    HTTP_PORT,
    HTTPS_PORT,
    USE_SECRET,
    USED,
    Reason,
    Refused,
    RuntimeRef,
    SecretAccess,
    Target,
)
from mcp_spaces.network.port import Accesses, NetworkLog
from mcp_spaces.network.references import Place
from mcp_spaces.network.scrubbing import CREDENTIALS_MAX, Scrubber
from mcp_spaces.vault.model import MAIN_FIELD, NOT_CONFIDENTIAL, Bindings, Entry, Reference
from mcp_spaces.vault.port import Secrets


class Learn(Protocol):
    def __call__(self, runtime: RuntimeRef, value: str, *, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """References that may be put into a request to `target`."""

    target: Target
    places: tuple[Place, ...]
    entries: Mapping[str, Entry]


class Injection:
    """Keeps for each runtime what its answers are searched for; `learn` is told it too, for what runs there meanwhile."""

    def __init__(
        self, *, secrets: Secrets, accesses: Accesses, approvals: Approvals, records: NetworkLog, learn: Learn
    ) -> None:
        self._secrets = secrets
        self._accesses = accesses
        self._approvals = approvals
        self._records = records
        self._learn = learn
        self._known: dict[str, Scrubber] = {}

    def scrubber(self, runtime: RuntimeRef) -> Scrubber | None:
        """None while the runtime has used no secret."""
        return self._known.get(runtime.id)

    def forget(self, runtime_id: str) -> None:
        self._known.pop(runtime_id, None)

    async def secured(self, runtime: RuntimeRef, target: Target) -> Target | None:
        """Where a plain request to `target` goes over TLS: to the origin that a secret within reach is bound to."""
        try:
            bindings = await self._secrets.bound_to(target.host, scope=self._accesses.secrets(runtime).grant)
        except SpacesError:
            # What cannot be read is bound to nothing: no secret goes anywhere then.
            return None
        found = secured(target, bindings)
        return found if any(one.permits(found.origin) for one in bindings) else None

    async def is_bound(self, runtime: RuntimeRef, target: Target) -> bool:
        try:
            bindings = await self._secrets.bound_to(target.host, scope=self._accesses.secrets(runtime).grant)
        except SpacesError:
            return False
        return any(one.permits(target.origin) for one in bindings)

    async def judge(self, runtime: RuntimeRef, places: tuple[Place, ...], target: Target, *, tls: bool) -> Judged:
        """Scope, then bindings, then policy. Opens nothing. Raises Refused."""
        access = self._accesses.secrets(runtime)
        entries: dict[str, Entry] = {}
        for one in _references(places):
            entries[one.path] = entries.get(one.path) or await self._found(one.path, access)
            _check_field(entries[one.path], one)
        goal = target if tls else secured(target, [one.bindings for one in entries.values()])
        for place in places:
            for one in place.references:
                _check_binding(entries[one.path], place, goal)
        for entry in entries.values():
            await self._check_policy(runtime, entry, goal, access)
        return Judged(goal, places, entries)

    async def granted_until(self, runtime: RuntimeRef, judged: Judged) -> float | None:
        """Until when what was judged is permitted as things are now, in seconds since 1970: the same secrets, unchanged,
        by a policy that says yes, or a yes until it expires. None: no more. Opens nothing and asks nobody."""
        access = self._accesses.secrets(runtime)
        ends_at = math.inf
        try:
            for entry in judged.entries.values():
                if await self._found(entry.path, access) != entry:
                    return None
                match decision := _decision(entry, access):
                    case Allow():
                        continue
                    case Deny():
                        return None
                    case Ask():
                        wanted = self._wanted(runtime, entry, judged.target, access, decision)
                        held_until = self._approvals.held_until(wanted.fingerprint)
                        if held_until is None:
                            return None
                        ends_at = min(ends_at, held_until)
                    case unreachable:
                        assert_never(unreachable)
        except (Refused, SpacesError):
            return None
        return ends_at

    async def values(self, runtime: RuntimeRef, judged: Judged) -> dict[int, str]:
        """What to send, by the field's place in the head. Recorded before it returns. Raises Refused."""
        run_id = self._records.run_of(runtime)
        opened: dict[Reference, str] = {}
        scrubber = self._known.setdefault(runtime.id, Scrubber())
        for place in judged.places:
            for one in place.references:
                if one not in opened:
                    opened[one] = await self._open(runtime, one, judged, run_id, header=place.header, scrubber=scrubber)
        filled = {place.at: place.filled(opened) for place in judged.places}
        for place in judged.places:
            path = place.references[0].path
            if place.scheme and not scrubber.learn_credentials(filled[place.at].removeprefix(place.scheme), name=path):
                raise Refused(
                    Reason.UNFIT,
                    f"{path} in Basic credentials that are too long, or of more than {CREDENTIALS_MAX} kinds here",
                    rule="vault.credentials",
                )
        return filled

    # Within

    async def _found(self, path: str, access: SecretAccess) -> Entry:
        try:
            return await self._secrets.find(path, scope=access.grant)
        except NotFound:
            # Denied and absent are the same (threat V08).
            raise _absent(path) from None
        except WrongState as error:
            raise Refused(Reason.VAULT_CLOSED, error.message, status=503) from None

    async def _check_policy(self, runtime: RuntimeRef, entry: Entry, target: Target, access: SecretAccess) -> None:
        decision = _decision(entry, access)
        match decision:
            case Allow():
                return
            case Deny():
                raise Refused(Reason.POLICY, f"the policy permits no use of {entry.path}", rule=decision.rule)
            case Ask():
                await self._check_approval(self._wanted(runtime, entry, target, access, decision), entry, target)
            case unreachable:
                assert_never(unreachable)

    async def _check_approval(self, asked: Approval, entry: Entry, target: Target) -> None:
        """Nobody can wait for a person here: the request is refused, the question stays. A yes holds for this secret,
        this origin and this runtime, until it expires."""
        if self._approvals.held_until(asked.fingerprint) is not None:
            return
        try:
            settled = await self._approvals.settle(asked)
        except QuotaExceeded as error:
            raise Refused(Reason.NEEDS_APPROVAL, error.message, rule=asked.rule) from None
        except SpacesError as error:
            raise _not_recorded() from error
        if settled.state is ApprovalState.CONSUMED:
            return
        if settled.state is ApprovalState.DENIED:
            raise Refused(Reason.POLICY, f"a person said no to {entry.path} at {target.origin}", rule=asked.rule)
        raise Refused(
            Reason.NEEDS_APPROVAL,
            f"{entry.path} at {target.origin} needs a person: mcp-spaces approve {settled.id}, then try again",
            rule=asked.rule,
        )

    def _wanted(
        self, runtime: RuntimeRef, entry: Entry, target: Target, access: SecretAccess, decision: Ask
    ) -> Approval:
        assert access.policy is not None  # noqa: S101 - asked of a policy
        wanted = json.dumps({"secret": entry.path, "entry": entry.id, "origin": target.origin})
        return self._approvals.request(
            fingerprint=fingerprint(
                USE_SECRET,
                wanted,
                principal_id=runtime.id,
                space_id=runtime.space_id,
                runtime_id=runtime.id,
                policy_version=access.policy.version,
            ),
            operation=USE_SECRET,
            principal_id=runtime.id,
            principal_name=f"code in sandbox {runtime.alias}",
            space_id=runtime.space_id,
            space_name=access.space_name,
            run_id=self._records.run_of(runtime),
            reason=f"{entry.path} would be put into requests to {target.origin}.",
            rule=decision.rule,
            input_json=wanted,
        )

    async def _open(
        self, runtime: RuntimeRef, one: Reference, judged: Judged, run_id: str, *, header: str, scrubber: Scrubber
    ) -> str:
        try:
            opened = await self._secrets.open(
                one.path,
                scope=self._accesses.secrets(runtime).grant,
                purpose=SecretUse.GATEWAY_INJECT,
                run_id=run_id,
                origin=judged.target.origin,
            )
        except (NotFound, Denied):
            # Taken away between the judgement and now.
            raise _absent(one.path) from None
        except WrongState as error:
            raise Refused(Reason.VAULT_CLOSED, error.message, status=503) from None
        except SpacesError as error:
            raise _not_recorded() from error
        name = one.field or MAIN_FIELD[opened.entry.kind]
        secret = opened.field(one.field)
        if secret is None:
            raise _no_field(one)
        value = secret.reveal()
        if name not in NOT_CONFIDENTIAL:
            if len(value) < MINIMUM_LENGTH:
                # It could not be found again in an answer (threat V22).
                raise Refused(
                    Reason.UNFIT,
                    f"{one.path} is shorter than {MINIMUM_LENGTH} characters: too short to be kept secret here",
                    rule="vault.length",
                )
            scrubber.learn(value, name=one.path)
            self._learn(runtime, value, name=one.path)
        body = {
            "host": judged.target.host,
            "port": judged.target.port,
            "header": header,
            "path": one.path,
            "field": name,
            "version": opened.entry.version,
            "fingerprint": opened.fingerprints[name],
        }
        try:
            await self._records.write(runtime, USED, body)
        except SpacesError as error:
            raise _not_recorded() from error
        return value


def secured(target: Target, bindings: Sequence[Bindings]) -> Target:
    """The same host over TLS: port 443 for port 80, where nothing is bound to any other port; else the port as it is."""
    if target.port != HTTP_PORT:
        return Target(target.host, target.port)
    usual = Target(target.host, HTTPS_PORT)
    if any(one.permits(usual.origin) for one in bindings):
        return usual
    ports = frozenset[int]().union(*(one.ports_of(target.host) for one in bindings))
    return Target(target.host, next(iter(ports))) if len(ports) == 1 else usual


def _references(places: Iterable[Place]) -> list[Reference]:
    return [one for place in places for one in place.references]


def _decision(entry: Entry, access: SecretAccess) -> Decision:
    """Raises Refused where there is no policy: silence means no."""
    if access.policy is None:
        raise _absent(entry.path)
    facts = SecretFacts(entry.path, SecretUse.GATEWAY_INJECT)
    return decide(access.policy, operation_id=USE_SECRET, effect=Effect.OBSERVES, facts=facts)


def _check_field(entry: Entry, one: Reference) -> None:
    if (one.field or MAIN_FIELD[entry.kind]) not in entry.fields or one.field == "totp":
        raise _no_field(one)


def _check_binding(entry: Entry, place: Place, target: Target) -> None:
    if not entry.bindings.permits(target.origin):
        raise Refused(Reason.NOT_BOUND, f"{entry.path} is not bound to {target.origin}", rule="vault.origins")
    if not entry.bindings.permits_header(place.header):
        raise Refused(Reason.NOT_BOUND, f"{entry.path} may not go into the header {place.header}", rule="vault.headers")


def _absent(path: str) -> Refused:
    return Refused(Reason.NOT_THERE, f"no secret {path} here", rule="vault.allow")


def _no_field(one: Reference) -> Refused:
    return Refused(Reason.NOT_THERE, f"{one.path} has no field of that name to be used", rule="vault.field")


def _not_recorded() -> Refused:
    return Refused(Reason.NOT_RECORDED, "nothing can be recorded, so nothing is done", status=503)
