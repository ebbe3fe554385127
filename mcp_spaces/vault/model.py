"""What a vault holds: paths, kinds, bindings, entries; and the type that a secret has while it is open."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Final, NoReturn

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, StringConstraints, model_validator

from mcp_spaces.core.facts import SecretUse
from mcp_spaces.core.spelling import Spelled

SEGMENT: Final = r"[a-z0-9][a-z0-9._-]{0,62}"
PATH: Final = rf"{SEGMENT}(?:/{SEGMENT}){{0,7}}"
VERSIONS_KEPT: Final = 10
ENTRIES_MAX: Final = 20_000
SECRET_CHARACTERS_MAX: Final = 64 * 1024

VaultPath = Annotated[
    str,
    StringConstraints(pattern=rf"^{PATH}$", max_length=512),
    Spelled("a path such as prod/github: 1 to 8 parts of a-z 0-9 . _ -, each beginning with a letter or digit"),
]
"""One to eight segments of lower-case ASCII. What does not fit is refused, never bent to fit (threats V01, V03)."""

_HOST = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PORT = r"(?::[1-9][0-9]{0,4})?"
_LOOPBACK = r"(?:localhost|127\.0\.0\.1|\[::1\])"
_SANDBOX = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.sandbox\.internal"
Origin = Annotated[
    str,
    StringConstraints(
        pattern=rf"^(?:https://{_HOST}{_PORT}|http://(?:{_LOOPBACK}|{_SANDBOX}){_PORT})$", max_length=300
    ),
    Spelled(
        "an origin such as https://api.example.com or https://example.com:8443, in small letters, without a path or a "
        "slash at its end; http is for this machine (localhost, 127.0.0.1) and for sandboxes only"
    ),
]
"""`https://host` or `https://host:port`, exactly; plain http only to what never leaves this machine: loopback, and
`http://ALIAS.sandbox.internal`, a sandbox of the space that uses the secret. Code in that sandbox sees what is typed
into its pages."""
OriginPattern = Annotated[
    str,
    StringConstraints(pattern=rf"^https://\*\.(?:[a-z0-9-]{{1,63}}\.)+[a-z0-9-]{{2,63}}{_PORT}$", max_length=300),
    Spelled("a pattern such as https://*.example.com, in small letters, without a path"),
]
"""`https://*.example.com`: sub-domains of a name with at least two labels, never the name itself."""
HeaderName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$"),
    Spelled("a header's name in small letters, such as x-api-key"),
]


class Kind(StrEnum):
    LOGIN = "login"
    VALUE = "value"
    API_KEY = "api_key"


NOTES: Final = "notes"
SEED: Final = "totp"
FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.LOGIN: ("username", "password", SEED, NOTES),
    Kind.VALUE: ("value", NOTES),
    Kind.API_KEY: ("token", NOTES),
}
MAIN_FIELD: Final[Mapping[Kind, str]] = {Kind.LOGIN: "password", Kind.VALUE: "value", Kind.API_KEY: "token"}
"""What a reference without `#field` means, and what an entry cannot be without."""
NOT_CONFIDENTIAL: Final = frozenset({"username"})
"""Sealed like the rest, but not redacted: a user name is an ordinary word (threat V22)."""

REFERENCE: Final = re.compile(rf"\{{\{{vault:({PATH})(?:#([a-z]{{1,20}}))?\}}\}}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """`{{vault:prod/github#token}}`; without a field, the kind's main one."""

    path: str
    field: str | None


def references(text: str) -> list[Reference]:
    """All that stand in `text`, in their order."""
    return [Reference(found[1], found[2]) for found in REFERENCE.finditer(text)]


def reference(text: str) -> Reference | None:
    """The reference that `text` is, from its first character to its last; None where it is anything else."""
    found = REFERENCE.fullmatch(text)
    return None if found is None else Reference(found[1], found[2])


class Upkeep(StrEnum):
    """What the vault itself opens secrets for. Nothing leaves the room."""

    UPDATE = "update"
    ROTATION = "rotation"


Purpose = SecretUse | Upkeep


class SecretValue:
    """A secret while it is open. It shows its name only; `reveal()` is the one way to what it holds."""

    __slots__ = ("__value", "name")

    def __init__(self, value: str, *, name: str) -> None:
        self.__value = value
        self.name = name

    def reveal(self) -> str:
        return self.__value

    def __repr__(self) -> str:
        return f"<secret {self.name}>"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)

    def __len__(self) -> int:
        return len(self.__value)

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a secret is not copied or pickled")


@cache
def _masking_key() -> bytes:
    return secrets.token_bytes(32)


def _masked(secret: SecretStr | None) -> str | None:
    """Tells equal secrets from others in this process, so that fingerprints work; says nothing about the value."""
    if secret is None:
        return None
    digest = hmac.digest(_masking_key(), secret.get_secret_value().encode("utf-8", "surrogatepass"), hashlib.sha256)
    return f"[secret {digest[:8].hex()}]"


GivenSecret = Annotated[
    SecretStr, Field(min_length=1, max_length=SECRET_CHARACTERS_MAX), PlainSerializer(_masked, when_used="always")
]
"""A secret in an input. Records, approvals and errors show that there is one."""


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Bindings(_Stored):
    """Where a secret may go. It is part of what the encryption authenticates: another binding does not decrypt."""

    origins: tuple[Origin, ...] = Field(default=(), max_length=50)
    """Exact origins, such as https://api.github.com."""
    origin_patterns: tuple[OriginPattern, ...] = Field(default=(), max_length=20)
    """Sub-domains, such as https://*.example.com."""
    headers: tuple[HeaderName, ...] = Field(default=(), max_length=20)
    """Request headers, in lower case, that the gateway may put it in; none: authorization."""

    @model_validator(mode="after")
    def _canonical(self) -> Bindings:
        for one in (*self.origins, *self.origin_patterns):
            scheme, _, rest = one.partition("://")
            port = rest.rpartition("]")[2].partition(":")[2]
            if port and (int(port) > 65_535 or (scheme, port) in (("https", "443"), ("http", "80"))):
                raise ValueError("leave out the scheme's own port; others are at most 65535")
        return self

    def permits(self, origin: str) -> bool:
        """`origin` is the one that is truly contacted, in lower case, without a default port."""
        return origin in self.origins or any(_matches(origin, pattern) for pattern in self.origin_patterns)

    @property
    def hosts(self) -> frozenset[str]:
        """Of the exact https origins."""
        return frozenset(_host_of(one) for one in self.origins if one.startswith("https:"))

    def names(self, host: str) -> bool:
        """Whether some port of `host` is among the origins, over TLS."""
        patterns = ("https://" + _host_of(one) for one in self.origin_patterns)
        return host in self.hosts or any(_matches(f"https://{host}", one) for one in patterns)

    def ports_of(self, host: str) -> frozenset[int]:
        """Of the exact https origins of `host`."""
        return frozenset(_port_of(one) for one in self.origins if one.startswith("https:") and _host_of(one) == host)

    def permits_header(self, name: str) -> bool:
        return name.lower() in (self.headers or ("authorization",))

    @property
    def digest(self) -> str:
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _host_of(origin: str) -> str:
    return origin.partition("://")[2].partition(":")[0]


def _port_of(origin: str) -> int:
    return int(origin.partition("://")[2].partition(":")[2] or 443)


def _matches(origin: str, pattern: str) -> bool:
    tail = pattern.removeprefix("https://*")
    host = origin.removeprefix("https://").removesuffix(tail)
    return origin.startswith("https://") and origin.endswith(tail) and re.fullmatch(_HOST, host) is not None


class Entry(_Stored):
    """What is known of a secret without opening it. `id` is new whenever a path is taken anew."""

    id: str
    path: VaultPath
    kind: Kind
    version: int = Field(ge=1)
    label: str
    fields: tuple[str, ...]
    """Names of the fields that it has."""
    bindings: Bindings
    created_at: float
    updated_at: float


class Use(_Stored):
    """The last time that a secret was opened for somebody."""

    # Rows of before may hold `totp_step`, a number that meant nothing once the seed was another.
    model_config = ConfigDict(extra="ignore")

    last_used_at: float
    purpose: SecretUse
    version: int
    run_id: str
    uses: int
    code_ends_at: float | None = None
    """When the last code that was given out is over, in seconds since 1970; the next one begins no earlier. None once
    a seed is set: its codes are others."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An entry with its secrets, opened for one purpose.

    `fingerprints` tell by field, in records, whether it was the same value: a keyed hash that says nothing else, new
    with each rotation.
    """

    entry: Entry
    fields: Mapping[str, SecretValue]
    fingerprints: Mapping[str, str]

    def field(self, name: str | None = None) -> SecretValue | None:
        """The kind's main field where none is named; None where there is no such field, and for a seed."""
        wanted = name or MAIN_FIELD[self.entry.kind]
        return None if wanted == SEED else self.fields.get(wanted)


@dataclass(frozen=True, slots=True)
class RawSecret:
    """One field, to be shown or handed on; `fingerprint` as in Opened."""

    path: str
    field: str
    version: int
    fingerprint: str
    value: SecretValue


@dataclass(frozen=True, slots=True)
class Code:
    """A one-time code. `ends_at` in seconds since 1970."""

    entry: Entry
    value: SecretValue
    period_s: int
    ends_at: float
