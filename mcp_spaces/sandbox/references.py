"""References to secrets in what a command is given: `{{vault:prod/github#token}}` in its environment or its stdin.

A reference is resolved where `vault.get` would show the secret, and nowhere else: scope, policy and vault are asked
the same questions. The value goes to the process alone; records keep path, version and fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mcp_spaces.core.context import Context
from mcp_spaces.core.facts import SecretFacts, SecretUse
from mcp_spaces.core.policy.decide import RAW_READ_OPERATION
from mcp_spaces.core.scope import Scope
from mcp_spaces.errors import Denied, InvalidInput, SpacesError
from mcp_spaces.vault.model import REFERENCE, Reference, references
from mcp_spaces.vault.port import Secrets

_OPENING = "{{vault:"
RESOLVED_BYTES_MAX = 2 << 20
"""Of a command's environment and stdin together, with values in the place of references: 13 bytes name 64 KiB."""
GATEWAY_HINT = (
    "Write {{vault:PATH}} into a header of an http:// request in the command itself: the gateway fills it in for the"
    " secret's own origins, and the command never sees it. A person can allow raw reads for a mount."
)


class Fed(Protocol):
    """What of a command's input may hold references."""

    @property
    def env(self) -> Mapping[str, str]: ...

    @property
    def stdin(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Resolved:
    """With values in the place of references: for the process, never for a record."""

    env: Mapping[str, str]
    stdin: str | None


def well_formed(text: str, *, where: str) -> str:
    """Raises ValueError, for what was meant as a reference and is none."""
    if _OPENING in REFERENCE.sub("", text):
        raise ValueError(f"{where} holds a reference to a secret that is none: write {{{{vault:PATH#FIELD}}}}")
    return text


def wanted(fed: Fed) -> tuple[SecretFacts, ...]:
    """What policy judges: each path once, in the order in which they stand."""
    return tuple(SecretFacts(path, SecretUse.RAW_READ) for path in dict.fromkeys(one.path for one in _all(fed)))


def check_scope(fed: Fed, scope: Scope) -> None:
    """Raises Denied, before a person is asked about what the scope does not hold."""
    if not any(True for _ in _all(fed)):
        return
    rule = (
        "scope.vault"
        if not scope.vault.allow
        else "scope.vault.allow_raw_reads"
        if not scope.vault.allow_raw_reads
        else "scope.operations"
        if not scope.permits_operation(RAW_READ_OPERATION)
        else None
    )
    if rule is not None:
        raise Denied("References to secrets are not resolved here.", hint=GATEWAY_HINT, rule=rule)


async def resolve(context: Context, fed: Fed, *, private_environment: bool) -> Resolved:
    """`private_environment`: as the sandbox says.

    Raises what `Secrets.read_raw` does, Denied for an environment that the engine would know, and InvalidInput where
    values do not fit into their places.
    """
    if not private_environment and any(references(text) for text in fed.env.values()):
        raise Denied(
            "In an image without Python a command's environment passes through the engine, which keeps it.",
            hint="Put the reference into stdin, or launch an image with python3.",
            rule="sandbox.environment",
        )
    values: dict[Reference, str] = {}
    for one in dict.fromkeys(_all(fed)):
        secret = await context.use(Secrets).read_raw(
            one.path, one.field, scope=context.scope.vault, run_id=context.run_id
        )
        value = values[one] = secret.value.reveal()
        context.redactor.learn(value, name=secret.path)
        context.note(
            "secret.resolved",
            {
                "path": secret.path,
                "field": secret.field,
                "version": secret.version,
                "fingerprint": secret.fingerprint,
            },
        )
    if not values:
        return Resolved(fed.env, fed.stdin)
    texts = (*fed.env.values(), fed.stdin or "")
    if (size := sum(_filled_bytes(text, values) for text in texts)) > RESOLVED_BYTES_MAX:
        raise InvalidInput(
            f"With its secrets in place, what the command is given has {size:,} bytes; at most {RESOLVED_BYTES_MAX:,}.",
            hint="Refer to a secret once, and let the command repeat it.",
        )
    env = {name: _filled(text, values) for name, text in fed.env.items()}
    for name, text in env.items():
        if "\0" in text:
            raise InvalidInput(f"The secret for {name} holds a NUL.", hint="Give it over stdin.")
    return Resolved(env, None if fed.stdin is None else _filled(fed.stdin, values))


async def check_command(context: Context, command: str) -> None:
    """A command is what everybody in the sandbox can read: what stands there is never resolved. The gateway fills a
    reference in on its way out, so it may stand there where it has a way out.

    Raises InvalidInput for a secret without any origin.
    """
    for path in {one.path for one in references(command)}:
        try:
            entry = await context.use(Secrets).find(path, scope=context.scope.vault)
        except SpacesError:
            # Not a secret of this space: text like any other.
            continue
        if not entry.bindings.origins and not entry.bindings.origin_patterns:
            raise InvalidInput(
                f"A command holds no secret, and {path} has no origin for which the gateway would fill it in.",
                hint="Put the reference into env or stdin, where raw reads are allowed; or have a person bind it:"
                " mcp-spaces vault update PATH --origins https://host",
            )


def _all(fed: Fed) -> Iterable[Reference]:
    for text in (*fed.env.values(), fed.stdin or ""):
        yield from references(text)


def _filled_bytes(text: str, values: Mapping[Reference, str]) -> int:
    """Of what `_filled` would make, without making it."""
    sizes = {one: len(value.encode()) for one, value in values.items()}
    grown = (sizes[Reference(found[1], found[2])] - len(found[0]) for found in REFERENCE.finditer(text))
    return len(text.encode()) + sum(grown)


def _filled(text: str, values: Mapping[Reference, str]) -> str:
    return REFERENCE.sub(lambda found: values[Reference(found[1], found[2])], text)
