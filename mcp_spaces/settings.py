"""Every knob: type, unit, default, limits and the name of its environment variable.

Parsed once, at the start of a process, and passed as values from there. The variable of `agent_calls_max` is
`MCP_SPACES_AGENT_CALLS_MAX`; lists are separated by commas. The same names stand in `settings.toml` of the state
folder, so that a daemon is the same whoever starts it. A variable or name that nobody reads is an error, since a knob
that silently does nothing is worse than none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mcp_spaces import __version__, places
from mcp_spaces.errors import InvalidInput

PREFIX = "MCP_SPACES_"
READ_ELSEWHERE = frozenset(
    {
        "MCP_SPACES_KEY",
        "MCP_SPACES_SERVER",
        "MCP_SPACES_BASE_IMAGE",
        "MCP_SPACES_MASTER_KEY",
        "MCP_SPACES_NEXT_MASTER_KEY",
        "MCP_SPACES_PASSPHRASE",
        "MCP_SPACES_NEXT_PASSPHRASE",
    }
)
"""The client's side: the shim's and the commands' key, the remote daemon that commands talk to, and the base of `make image`.
The vault's master key or passphrase: read once, and never kept among the settings."""

FILE = "settings.toml"
FILE_BYTES_MAX = 64 << 10
VARIABLE_ONLY = frozenset({"state_dir", "start_s"})
"""Where the file is, and how long the client that starts a daemon waits for it: both are asked before the file is read."""

KIB = 1 << 10
MIB = 1 << 20

CommaSeparated = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda given: tuple(filter(None, map(str.strip, given.split(",")))) if type(given) is str else given
    ),
]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    state_dir: Path = Field(default_factory=lambda: Path(places.state_directory(os.environ)))
    """Database, sockets, logs and files. Mode 0700, on a local disk."""

    line_bytes_max: int = Field(default=16 * MIB, ge=64 * KIB, le=64 * MIB)
    """One JSON-RPC message on a local socket. The largest that operations take, 10 MiB as base64, fits."""
    local_connections_max: int = Field(default=256, ge=1, le=10_000)
    """Connections to both local sockets together."""
    agent_calls_max: int = Field(default=32, ge=1, le=1_000)
    """Calls that run at a time for one local connection, or for one key over HTTP."""
    streams_max: int = Field(default=16, ge=1, le=1_000)
    """Open change streams (`subscriptions/listen`) of one local connection, or of one key over HTTP."""
    answer_characters_max: int = Field(default=20_000, ge=1_000, le=40_000)
    """A longer answer keeps its head and tail. Clients write 50,000 characters to a file and show 2 KB of it."""
    resource_bytes_max: int = Field(default=700 * KIB, ge=KIB, le=MIB)
    """The content of one resource. Clients refuse server-sent events above 1 MiB."""
    heartbeat_s: float = Field(default=10, gt=0, le=60)
    """How often a running call reports progress when it has nothing to say. Clients abort after 5 min of silence."""
    key_check_s: float = Field(default=1, gt=0, le=2)
    """How often the keys of running calls are checked for expiry; a revocation is noticed at once."""
    start_s: float = Field(default=60, gt=0, le=600)
    """How long reconciling with Docker and the database may take before the daemon gives up starting."""

    sandbox_image: str = Field(default=f"mcp-spaces-sandbox:{__version__}", min_length=1)
    """What sandboxes run on when nothing else is asked; `make image` builds the default one."""
    sandbox_images: CommaSeparated = ()
    """Further images that agents may ask for. Nothing is ever pulled."""
    sandbox_pool_size: int = Field(default=1, ge=0, le=8)
    """Warm sandboxes kept ready for each image and size that is in use; 0: none."""
    browser_driver: Literal["auto", "container", "local"] = "auto"
    """Where browsers run. `auto`: in containers where the engine answers and has the image, else with this machine's
    own Chromium (`local`)."""
    browser_headed: bool = False
    """Show browsers on this machine's screen; they are this machine's own Chromium then."""
    browser_image: str = Field(default=f"mcp-spaces-browser:{__version__}", min_length=1)
    """What browsers run in; `make image` builds the default one."""
    browser_pool_size: int = Field(default=1, ge=0, le=4)
    """Warm browsers kept ready, 150 MB each, once the first one was asked for; 0: none."""
    browser_memory_bytes: int = Field(default=2 << 30, ge=512 * MIB)
    """What the browser may use that a space's runtimes share, where the space's own ceiling is not lower. One with
    isolation `process` has what its runtime is launched with."""
    browser_executable: Path | None = None
    """This machine's Chromium, for the local driver; unset: the first one found."""
    browser_trusted_keys: CommaSeparated = ()
    """Public keys (base64 of their sha256) whose certificates browsers accept although no authority signed them."""
    docker_host: str | None = None
    """The Docker engine's address; unset: `DOCKER_HOST`, else Docker's own default."""

    vault_key_source: Literal["auto", "keyring", "file", "environment", "passphrase"] = "auto"
    """Where a new vault's master key is kept. `auto`: the environment's where it is set, else the OS keyring, else a
    0600 file. An existing vault knows where its own is; `mcp-spaces vault rekey` moves it."""

    network_private_hosts: CommaSeparated = ()
    """Private addresses that spaces may be allowed to reach: `name:port`, or `name:port=address:port`. A space's
    mount has to permit the name as well. Everything else that is not on the public internet stays refused."""
    network_authorities: Path | None = None
    """PEM certificates of your own authorities: servers among `network_private_hosts` may prove themselves by these,
    beside the system's, when secrets are put into requests to them."""
    network_proxies: CommaSeparated = ()
    """HTTP proxies that browsers may go on through, where a space's mount permits them by name: `us=host:port`, or
    `us=user:password@host:port`, percent-encoded."""
    network_connections_max: int = Field(default=200, ge=1, le=10_000)
    """Connections of one space through the gateway at a time."""
    network_requests_per_day: int = Field(default=200_000, ge=0)
    """Requests of one space, refused ones too, from midnight to midnight UTC."""
    network_up_bytes_per_day: int = Field(default=4 << 30, ge=0)
    """What one space may send out."""
    network_down_bytes_per_day: int = Field(default=64 << 30, ge=0)
    """What one space may fetch."""
    network_idle_s: float = Field(default=120, gt=0, le=3_600)
    """A connection over which nothing passed for so long is closed."""
    network_total_s: float = Field(default=3_600, gt=0, le=86_400)
    """The longest that one connection through the gateway lives."""

    http_port: int | None = Field(default=None, ge=0, le=65_535)
    """Serve Streamable HTTP on this port; 0 picks a free one. Unset: no HTTP."""
    http_host: str = "127.0.0.1"
    """The address to bind. Any other than a loopback address needs `http_allowed_hosts` and TLS."""
    http_allowed_hosts: CommaSeparated = ()
    """Exact Host headers to answer to, with the port where it is not the scheme's own."""
    http_allowed_origins: CommaSeparated = ()
    """Exact Origin headers to accept beside those of the allowed hosts. Requests without one are fine."""
    http_public_url: str | None = Field(default=None, pattern=r"^https?://[^/?#\s]+$")
    """Where clients reach this server, for links; worked out from the names and the port when unset."""
    http_tls_certificate: Path | None = None
    """PEM chain; with `http_tls_key`, the daemon itself speaks TLS."""
    http_tls_key: Path | None = None
    """PEM private key."""
    http_behind_tls_proxy: bool = False
    """The operator's word that a proxy in front ends TLS. The bound port must be out of reach for others."""
    http_connections_max: int = Field(default=1_024, ge=8, le=100_000)
    """Open connections, idle ones and streams included. Beyond: 503."""
    http_sessions_max: int = Field(default=1_000, ge=1, le=100_000)
    """Sessions of clients that speak a protocol of 2025-11-25 or older. Beyond: 503."""
    http_sessions_per_key_max: int = Field(default=64, ge=1, le=100_000)
    """Of these, the sessions that one key opened. Beyond: 503."""
    http_session_idle_s: float = Field(default=1_800, ge=10, le=86_400)
    """A session without a request or open stream for so long is closed."""
    http_body_bytes_max: int = Field(default=16 * MIB, ge=64 * KIB, le=64 * MIB)
    """One request body. Beyond: 413."""
    http_header_s: float = Field(default=10, gt=0, le=60)
    """A connection whose request line and headers have not arrived by then is closed."""
    http_body_s: float = Field(default=60, gt=0, le=600)
    """A connection whose request body has not arrived so long after its headers is closed. The largest body passes in
    time at 2.3 Mbit/s."""

    @property
    def http_is_loopback(self) -> bool:
        """Whether only this machine can reach the bound address. A name other than localhost could be anybody's."""
        if self.http_host == "localhost":
            return True
        try:
            return ip_address(self.http_host).is_loopback
        except ValueError:
            return False

    @property
    def http_address(self) -> str:
        """`http_host` as it stands in a URL."""
        return f"[{self.http_host}]" if ":" in self.http_host else self.http_host

    @property
    def serves_links(self) -> bool:
        return self.http_port is not None or self.http_public_url is not None

    @property
    def public_url(self) -> str | None:
        """Where links lead, without a slash at the end; None where there is no HTTP, or on a port not known yet."""
        if self.http_public_url is not None or not self.http_port:
            return self.http_public_url
        is_tls = self.http_behind_tls_proxy or self.http_tls_certificate is not None
        name = self.http_allowed_hosts[0] if self.http_allowed_hosts else f"{self.http_address}:{self.http_port}"
        return f"{'https' if is_tls else 'http'}://{name}"


def read_settings(environment: Mapping[str, str], **given: object) -> Settings:
    """The settings of this process. What is `given`, as on a command line, wins over the environment, and that over
    `settings.toml` in the state folder.

    Raises:
        InvalidInput: a value is out of its limits, a variable or name is none of ours, or the file cannot be read.
    """
    given = {name: value for name, value in given.items() if value is not None}
    state = Path(str(given.get("state_dir", places.state_directory(environment))))
    file = state / FILE
    # Docker's own variable, as every Docker client reads it; ours wins.
    values: dict[str, object] = {"state_dir": state, "docker_host": environment.get("DOCKER_HOST") or None}
    try:
        return Settings.model_validate(values | _from_file(file) | _from_environment(environment) | given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f"Setting {name}: {first['msg']}.",
            hint=f"It is read from {PREFIX}{name.upper()}, {file} or a command-line option.",
        ) from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable in READ_ELSEWHERE or variable == places.STATE_DIRECTORY_VARIABLE:
            continue
        knob = variable.removeprefix(PREFIX).lower()
        if knob not in Settings.model_fields:
            raise InvalidInput(
                f"{variable} is not a setting.", hint=f"Unset it. Settings: {', '.join(Settings.model_fields)}."
            )
        values[knob] = value
    return values


def _from_file(path: Path) -> dict[str, object]:
    try:
        # A pipe in its place would be waited for.
        if stat.S_ISFIFO(path.stat().st_mode):
            raise InvalidInput(f"{path} is a pipe.", hint="Move it away.")
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", hint="Mend it, or move it away.") from None
    if len(content) > FILE_BYTES_MAX:
        raise InvalidInput(f"{path} has more than {FILE_BYTES_MAX // KIB} KiB.", hint="It holds settings alone.")
    # Most have no such file, and need not wait for this.
    import tomllib

    try:
        values = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is no TOML: {error}.", hint="A line is such as http_port = 8765.") from None
    known = [name for name in Settings.model_fields if name not in VARIABLE_ONLY]
    for name in values:
        if name in VARIABLE_ONLY:
            raise InvalidInput(f"{name} does not go into {path}.", hint=f"Set {PREFIX}{name.upper()}.")
        if name not in known:
            raise InvalidInput(f"{name[:64]!a} in {path} is not a setting.", hint=f"Settings: {', '.join(known)}.")
    return values
