"""What the gateway decides on, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address

from mcp_spaces.core.policy import Policy
from mcp_spaces.core.scope import NetworkGrant, VaultGrant
from mcp_spaces.errors import InvalidInput

USE_SECRET = "network.use_secret"  # noqa: S105 - the name of one
"""What policies and approvals call a secret's use at the gateway; nobody calls it as an operation."""
ALLOWED, REFUSED, CLOSED, USED = "network.allowed", "network.refused", "network.closed", "network.secret"
"""The types of the gateway's events: the last one is a secret that was put into a request."""
HTTP_PORT = 80
HTTPS_PORT = 443
SANDBOX_DOMAIN = "sandbox.internal"
"""`ALIAS.sandbox.internal` is another sandbox of the same space, and never a name for the resolver."""


class Reason(StrEnum):
    """Why something was refused; stable, for programs."""

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    NOT_SUPPORTED = "not_supported"
    BAD_HOST = "bad_host"
    IP_LITERAL = "ip_literal"
    NO_NETWORK = "no_network"
    NOT_LISTED = "not_listed"
    MAIL_PORT = "mail_port"
    PRIVATE_ADDRESS = "private_address"
    UNKNOWN_HOST = "unknown_host"
    UNREACHABLE = "unreachable"
    NO_TLS = "no_tls"
    OTHER_NAME = "other_name"
    HIDDEN_NAME = "hidden_name"
    OVER_BUDGET = "over_budget"
    TOO_SLOW = "too_slow"
    NO_SUCH_SANDBOX = "no_such_sandbox"
    WITHDRAWN = "withdrawn"
    NARROWED = "narrowed"
    BLOCKED = "blocked"
    NOT_RECORDED = "not_recorded"
    MISPLACED = "misplaced_reference"
    NOT_THERE = "no_such_secret"
    NOT_BOUND = "not_bound"
    POLICY = "policy"
    NEEDS_APPROVAL = "needs_approval"
    UNFIT = "unfit_secret"
    VAULT_CLOSED = "vault_closed"
    BAD_CERTIFICATE = "bad_certificate"
    ENCODED_ANSWER = "encoded_answer"
    CLIENT_LEFT = "client_left"


FAILURES = frozenset(
    {Reason.UNREACHABLE, Reason.UNKNOWN_HOST, Reason.TOO_SLOW, Reason.NOT_RECORDED, Reason.CLIENT_LEFT}
)
"""Not refused by a rule: they stand in the event of the connection's end."""


class Refused(Exception):
    """No, with the reason for programs, the rule that said so, and words for whoever reads the answer.

    `words` holds only our own text and names that passed the host grammar.
    """

    def __init__(self, reason: Reason, words: str, *, rule: str = "", status: int = 403) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words
        self.rule = rule
        self.status = status
        self.target: Target | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request wants to go. `host` is in lower case and has passed the grammar. `tunnel`: by CONNECT."""

    host: str
    port: int
    tunnel: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """As a browser writes it, for TLS."""
        return f"https://{self.authority(usual_port=HTTPS_PORT)}"

    def authority(self, *, usual_port: int) -> str:
        """As requests name it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == usual_port else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Access:
    """What a runtime may reach at this moment: scope and policy together."""

    grant: NetworkGrant = field(default_factory=NetworkGrant)
    because: str = "network.mode"
    """The key that says no where the grant holds nothing."""
    neighbours: bool = False
    """Servers in sandboxes of the same space, whatever the grant: nothing leaves the machine by them."""
    space: NetworkGrant = field(default_factory=NetworkGrant, compare=False)
    """What one would get that is launched now: for words alone, it permits nothing."""


NO_ACCESS = Access()


@dataclass(frozen=True, slots=True)
class SecretAccess:
    """What a runtime may use of the vault at this moment, and the policy that judges each use."""

    grant: VaultGrant = field(default_factory=VaultGrant)
    policy: Policy | None = None
    space_name: str = ""
    own_authority: bool = False
    """The space has TLS to bound hosts end at the gateway."""


NO_SECRETS = SecretAccess()


@dataclass(frozen=True, slots=True)
class RuntimeRef:
    """Whose connection it is: known by the stream that it came through, never by what it says."""

    id: str
    space_id: str
    alias: str
    greases: bool = False
    """Its one client is Chromium, which puts an empty ECH extension into every hello and cannot be told not to.
    Without DNS it never has a key for a real one, and no page can make it use one."""
    blocked: tuple[str, ...] = ()
    """`host` or `*.host`: refused to this runtime, whatever else is permitted."""
    proxy: str | None = None
    """The name of the operator's proxy that its connections go on through."""


@dataclass(frozen=True, slots=True)
class PrivateHosts:
    """What the operator opened on purpose: `name:port` → the address and port that is dialled.

    Such a name still has to be permitted by the space's mount; only the refusal of private addresses and of
    literals is lifted, for exactly that port.
    """

    by_target: Mapping[tuple[str, int], tuple[str, int]]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> PrivateHosts:
        """`registry.local:8080=127.0.0.1:5000`, `registry.local:8080` (the port of the resolved addresses) or
        `127.0.0.1:8080`. Raises InvalidInput."""
        found: dict[tuple[str, int], tuple[str, int]] = {}
        for entry in entries:
            name, given, address = entry.strip().lower().partition("=")
            try:
                target = host_and_port(name)
                found[target] = host_and_port(address) if given else (_address(target[0]), target[1])
            except ValueError:
                raise InvalidInput(
                    f"Setting network_private_hosts: {entry[:80]!r} cannot be read.",
                    hint="Write name:port, or name:port=address:port.",
                ) from None
        return cls(found)

    def of(self, target: Target) -> tuple[str, int] | None:
        """The address (empty: to be resolved) and port to dial."""
        return self.by_target.get((target.host, target.port))


def _address(host: str) -> str:
    """The host itself where it is an address, else empty."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def host_and_port(text: str) -> tuple[str, int]:
    """Raises ValueError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("no host:port")
    return host, int(port)
