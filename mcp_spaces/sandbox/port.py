"""The driver port: what any technology that runs sandboxes has to do.

`tests/sandbox/contract` has the same behaviours for every driver: the Docker stream driver, its
`docker exec` fallback, and the fake. Whatever comes out of a sandbox is untrusted data, the word of the agent
process inside included: drivers bound every length and never trust a name or a number from inside.

Paths are relative to the workspace; `/workspace/…` is understood as well. A name that is not UTF-8 is shown with
`\\xNN` and cannot be addressed. Every method raises only errors of `mcp_spaces.errors`:
  InvalidInput        no path, pattern, command or limit can look like that (NUL, over 4096 bytes, over 200 names, …)
  RuntimeUnavailable  the engine does not answer, or the sandbox died under the call
  OutOfMemory         the sandbox has no memory left for a file operation (a command's own end is in its Exit)
  QuotaExceeded       its limit of processes or open files is reached
  NotFound            no such file (a path is named as the caller wrote it)
  WrongState          the path is of another kind (directory, FIFO, device), or leads outside the workspace
  Conflict            the file exists and `overwrite` is false, or it changed under an edit (base_sha256)
  DiskFull            the workspace's disk limit is reached
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Protocol

WORKSPACE = "/workspace"
"""Where the writable tree stands inside every sandbox; all file paths are relative to it."""

PROXY_PORT = 3128
"""Where the proxy listens on 127.0.0.1 inside a sandbox."""

TIMEOUT_EXIT_CODE = 124
"""What `timeout(1)` answers, and we too."""


class Tenant(StrEnum):
    """What lives in a container. Their seccomp profiles differ in what Chromium's own sandbox needs."""

    SANDBOX = "sandbox"
    BROWSER = "browser"


class Stream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one sandbox may use. Disk is the workspace; /tmp is memory and counts as such."""

    cpu_cores: float = 1.0
    memory_bytes: int = 1 << 30
    disk_bytes: int = 2 << 30
    pids: int = 256

    def meet(self, other: SandboxLimits) -> SandboxLimits:
        """The smaller one of each."""
        return SandboxLimits(
            **{one.name: min(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)}
        )


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What to launch. There is no field for binds, devices, capabilities, host namespaces or sysctls."""

    runtime_id: str
    image: str
    limits: SandboxLimits = field(default_factory=SandboxLimits)


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """1 to 1000 of each."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Command:
    """A program to start. `cwd` is relative to the workspace; `env` is added to the sandbox's plain environment.

    With `terminal`, stdin and output are one pseudo-terminal and everything comes as STDOUT. Without `stdin` it reads
    /dev/null, and nothing can be written. Arguments and environment together may have 255 KiB.
    """

    argv: Sequence[str]
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    terminal: TerminalSize | None = None
    stdin: bool = True

    @property
    def is_fed(self) -> bool:
        return self.stdin or self.terminal is not None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended. A signal shows as 128 + its number, as shells do; 127 is a program that is not there, 126 one
    that may not run. `out_of_memory`: it failed, and the kernel killed something in the sandbox for memory meanwhile."""

    exit_code: int
    duration_ms: float
    out_of_memory: bool = False


OutputSink = Callable[[Stream, bytes], None]
"""Called in order with chunks of at most 64 KiB. Must not block; keeps what it wants and drops the rest."""


class Process(Protocol):
    """A running command with all its descendants."""

    async def write(self, content: bytes) -> None:
        """Append to stdin; waits while the process does not read. WrongState after its stdin was closed."""

    async def close_stdin(self) -> None:
        """The command finds the end of its input. Idempotent."""

    async def resize(self, size: TerminalSize) -> None:
        """For commands with a terminal; otherwise nothing happens."""

    async def wait(self) -> Exit:
        """Until the process itself ended and its output was delivered. Descendants that it left behind go on
        (their output is dropped); a second wait answers the same. RuntimeUnavailable when the sandbox went first."""

    async def kill(self) -> None:
        """Kill the process and every descendant, whatever session or group they moved to, and nothing else.

        Returns when none is left; partial output was delivered before. Killing what already ended kills
        descendants left behind, and is no error.
        """


class FileKind(StrEnum):
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileStat:
    """`path` is relative to the workspace, with every link resolved; `modified_at` in seconds since 1970."""

    path: str
    kind: FileKind
    size_bytes: int
    modified_at: float
    executable: bool


@dataclass(frozen=True, slots=True)
class FileContent:
    """A range of a file. `size_bytes` is the whole file's; `resolved_path` has every link resolved; `version` is what
    the file was before this was read: another one after any change of it, also one that keeps its size and its time."""

    content: bytes
    offset: int
    size_bytes: int
    resolved_path: str
    version: str


@dataclass(frozen=True, slots=True)
class SearchMatch:
    """`line` counts from 1; `text` is that line, cut at 1000 bytes."""

    path: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Sorted by path. `truncated` when `limit` cut it."""

    entries: tuple[FileStat, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class SearchResult:
    """By file in the order of `glob`, then by line. `truncated` when `limit` cut it. `too_large`: texts over 10 MiB
    that were passed over until then."""

    matches: tuple[SearchMatch, ...]
    truncated: bool
    too_large: int


class Connection(Protocol):
    """Bytes to and from one socket inside a sandbox, each way within a window of 256 KiB."""

    async def receive(self) -> bytes:
        """The next at most 64 KiB; empty once the other side has no more. Raises RuntimeUnavailable when it broke."""

    async def send(self, content: bytes) -> None:
        """Waits while the other side does not read. Raises RuntimeUnavailable when it broke."""

    async def finish(self) -> None:
        """No more bytes from this side; the other one may go on. Idempotent."""

    def close(self) -> None:
        """At once, both ways; whatever is under way is lost. Idempotent."""


@dataclass(frozen=True, slots=True)
class SandboxUsage:
    """At this moment; disk is the workspace's."""

    memory_bytes: int
    disk_bytes: int
    pids: int


class Sandbox(Protocol):
    """A live sandbox. File operations run inside, with the sandbox's own rights; the host opens no path by name.

    `new_workspace`: there was none for this runtime before the launch.
    """

    new_workspace: bool

    @property
    def container_id(self) -> str: ...

    @property
    def image_id(self) -> str:
        """Of the image's content: where it is the same, every file outside of the workspace and `/tmp` is."""

    @property
    def private_environment(self) -> bool:
        """Whether what a command's environment holds is known inside alone. False: the engine keeps it for a while."""

    async def start(self, command: Command, *, output: OutputSink) -> Process:
        """NotFound or WrongState when `cwd` is no folder. What `output` gets may come before this returns."""

    async def read_file(self, path: str, *, offset: int = 0, limit: int) -> FileContent:
        """Regular files only, links inside the workspace are followed. A range past the end is empty."""

    async def write_file(
        self, path: str, content: bytes, *, overwrite: bool, base_sha256: str | None = None
    ) -> FileStat:
        """All or nothing: a temporary file in the same folder, then a rename. Folders on the way are made.

        Mode bits of a replaced file are kept. A link anywhere on the path is WrongState. With `base_sha256`,
        Conflict unless the present content has that hash.
        """

    async def delete_file(self, path: str, *, recursive: bool = False) -> int:
        """How many entries went. A link is removed, never followed. WrongState for a folder without `recursive`."""

    async def stat(self, path: str) -> FileStat:
        """Of what is there in the end: links inside the workspace are followed."""

    async def list_files(self, path: str, *, depth: int = 1, limit: int = 1000) -> Listing:
        """What is below a folder, without following links. With a `depth` of 1, what is right in it."""

    async def glob(self, pattern: str, *, limit: int = 1000) -> Listing:
        """Files whose path matches; `**` crosses folders; links are not followed; `.git` is passed over.

        In the order of paths, but hidden folders, `node_modules`, `venv` and `__pycache__` after all else beside
        them: what is cut off at the limit is others' work first. So in `search`.
        """

    async def search(
        self, pattern: str, *, path: str = ".", glob: str | None = None, limit: int = 200, timeout_s: float = 10.0
    ) -> SearchResult:
        """Lines that match a regular expression (Python `re`, on bytes). Binary files, files over 10 MiB and `.git`
        are passed over, texts end after 1000 bytes. TimedOut when it takes longer; InvalidInput when the expression does not compile."""

    async def usage(self) -> SandboxUsage: ...

    async def offer_proxy(
        self,
        accept: Callable[[Connection], None],
        *,
        environment: Callable[[], Mapping[str, str]] | None = None,
        port: int,
    ) -> int:
        """Listen on 127.0.0.1 inside; each connection goes to `accept`, which must not block. Once a port, and on at
        most 64 ports.

        `environment` is asked at the start of each command and added below the command's own. With port 0 any free
        one is taken; returns the port. Raises WrongState where the image has no Python: it stays without network;
        QuotaExceeded when there are 64.
        """

    async def withdraw_proxy(self, port: int) -> None:
        """Listen there no more. Connections that stand are their owner's to close. Idempotent."""

    async def dial(self, port: int) -> Connection:
        """To a server inside, on 127.0.0.1 or ::1. Raises WrongState when nobody listens, or without Python."""

    async def closed(self) -> str:
        """Waits until the sandbox is gone, for whatever reason, and returns that reason in words."""

    async def stop(self) -> None:
        """Kill everything and free the container; the workspace's files stay. Idempotent."""


@dataclass(frozen=True, slots=True)
class Wall:
    """One wall as it was found: `holds` is a fact, `found` says what was seen, `mend` the exact command or ''."""

    name: str
    holds: bool
    found: str
    mend: str = ""


class SandboxDriver(Protocol):
    """Starts sandboxes and frees what they used."""

    name: str

    async def launch(self, spec: SandboxSpec) -> Sandbox:
        """A sandbox whose walls were proven, with the workspace that belongs to `runtime_id` (new and empty the
        first time, with its files afterwards). Either all of it or nothing is left behind. Conflict while the runtime
        runs already; RuntimeUnavailable when the engine, the image or a wall is missing (images are never pulled)."""

    async def resize(self, runtime_id: str, limits: SandboxLimits) -> None:
        """Memory, processors and processes of a live sandbox, from now on; its disk stays as it was made. What it uses
        above them already may end it. Raises NotFound, InvalidInput, RuntimeUnavailable."""

    async def delete_workspace(self, runtime_id: str) -> None:
        """The files go for good, also those that a launch makes which was given up and has not ended. Idempotent."""

    async def reap(self, *, keep: Collection[str]) -> Sequence[str]:
        """Remove every container and workspace of this instance whose runtime id is not in `keep`; containers of
        runtimes in `keep` go too unless this driver object holds them (they belong to a process that died).
        Never touches what carries another instance's label. Returns the ids of what was removed."""

    async def walls(self) -> Sequence[Wall]:
        """What protects here, for `mcp-spaces doctor`. Never raises: an engine that is down is a finding."""

    async def aclose(self) -> None:
        """Stop every sandbox and the pool."""


class LiveSandboxes(Protocol):
    """The sandboxes that run now, for rooms that move files in and out of them."""

    def live(self, runtime_id: str) -> Sandbox:
        """Raises WrongState when the runtime is stopped (the hint says how to start it), RuntimeUnavailable when it
        should run and does not."""
