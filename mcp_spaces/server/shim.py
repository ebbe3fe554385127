"""`mcp-spaces stdio`: what an MCP client spawns. It starts the daemon where none runs, lends it the client's pipes, and
waits; what is no pipe (a file, a terminal) it copies.

Standard library only, and of that only what is built in or tiny: importing `socket`, `subprocess` or `typing` would
cost more than everything else here together.

The client's bytes are never looked at. One line goes ahead of them, `{"mcp-spaces":1,"pipes":2}` with the pipes.
When `MCP_SPACES_KEY` holds a key it says `{"mcp-spaces":1,"key":"…"}`, and the daemon serves the key's principal.
"""
# pathlib takes longer to import than the shim takes to connect, and contextlib as long
# ruff: noqa: PTH100, PTH103, PTH120, PTH123, SIM105

from __future__ import annotations

import _socket
import _thread
import os
import stat
import sys

from mcp_spaces import places

TYPE_CHECKING = False  # type checkers know the name; importing typing would be the most expensive line here
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

CHUNK_BYTES = 1 << 16
READY_S = 60
"""Reconciling what a crash left, unless MCP_SPACES_START_S says otherwise: then the daemon itself gives up."""
READY_S_MAX = 600
"""The most that the daemon takes MCP_SPACES_START_S for."""
IMPORTING_S = 30
"""Beside that, for what a daemon does before it looks at its clock. It takes 1 s on a machine with nothing to do."""
GREETING = b'{"mcp-spaces":1,"pipes":2}\n'
CLIENT_LEFT = b"."
"""What the daemon says last of all, over the connection of a shim that lent pipes, when it was the client that left."""
SO_PEERCRED = 17  # linux/asm-generic/socket.h; the `socket` module would bring it, and 5 ms

EXIT_REFUSED = 2
"""The environment or the socket is not as it must be."""
EXIT_NO_DAEMON = 3
"""The daemon could not be started."""
EXIT_DAEMON_LEFT = 4
"""The daemon went away while the client was still connected."""

PASSED_ON = frozenset(
    {
        *("HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"),
        # The session's: the OS keyring is reached over its bus, and a browser that people look at needs its screen.
        *("DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"),
    }
)
PASSED_ON_PREFIXES = ("DOCKER_", "LC_", "MCP_SPACES_", "PLAYWRIGHT_BROWSERS_PATH", "SSL_CERT_", "XDG_")
"""What the daemon inherits. It outlives this client and serves others, so the client's own environment, with its
tokens, interpreter switches and preloads, stays out."""

READ_ONCE = (
    b"MCP_SPACES_MASTER_KEY",
    b"MCP_SPACES_NEXT_MASTER_KEY",
    b"MCP_SPACES_PASSPHRASE",
    b"MCP_SPACES_NEXT_PASSPHRASE",
)
"""The daemon erases its own copy of these (vault/given_keys.py)."""


class NotConnected(Exception):
    """There is no daemon to talk to. The code that a shim exits with, and what to say, line by line."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(*lines)
        self.code = code
        self.lines = lines


def main() -> NoReturn:
    """Connect standard input and output with the daemon until either side ends, then exit."""
    try:
        state = places.state_directory(os.environ)
        greeting = preamble(os.environ.get("MCP_SPACES_KEY", ""))
        connection = connect(state) or started_daemon(state)
        erase_keys()
        log = places.daemon_log(state)
        if are_pipes(0, 1):
            lend_pipes(connection, greeting or GREETING)
            wait(connection, log=log)
        greet(connection, greeting)
        copy_both_ways(connection, log=log)
    except NotConnected as why:
        give_up(why.code, *why.lines)


def preamble(key: str) -> bytes:
    """The line that names the principal, or nothing for the local agent."""
    if not key:
        return b""
    if not key.isascii() or not key.isprintable() or '"' in key or "\\" in key or " " in key:
        give_up(EXIT_REFUSED, "MCP_SPACES_KEY does not hold a key: `mcp-spaces key create` prints one.")
    return b'{"mcp-spaces":1,"key":"' + key.encode() + b'"}\n'


def connect(state: str) -> _socket.socket | None:
    """A connection to the running daemon, or None where none listens. Raises NotConnected."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(places.agent_socket(state))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise NotConnected(EXIT_REFUSED, f"{places.agent_socket(state)}: {error.strerror or error}.") from None
    # pid, uid and gid, 32 bits each: a key must not be told to whoever else listens there
    owner = int.from_bytes(connection.getsockopt(_socket.SOL_SOCKET, SO_PEERCRED, 12)[4:8], sys.byteorder)
    if owner not in (0, os.geteuid()):
        connection.close()
        raise NotConnected(EXIT_REFUSED, f"{places.agent_socket(state)} belongs to another user (uid {owner}).")
    return connection


def started_daemon(state: str) -> _socket.socket:
    """Start the daemon unless somebody else just did, wait until it listens, and connect to it.

    Raises NotConnected: it cannot be started, or the state directory cannot be written.
    """
    import fcntl

    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        lock = os.open(places.start_lock(state), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(error, state) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        connection = connect(state)
        if connection is None:
            connection = started(state)
    finally:
        os.close(lock)
    return connection


def started(state: str) -> _socket.socket:
    """A connection to the daemon that this starts, or to one that was faster. Raises NotConnected."""
    why = NotConnected(EXIT_NO_DAEMON, f"The daemon started, but does not listen on {places.agent_socket(state)}.")
    try:
        start(state)
    except NotConnected as failure:
        # A shim that was ended while it waited leaves its daemon behind, which may have been starting until now.
        why = failure
    connection = connect(state)
    if connection is None:
        raise why
    return connection


def unwritable(error: OSError, state: str) -> NotConnected:
    return NotConnected(
        EXIT_NO_DAEMON,
        f"{error.filename or state} cannot be written: {error.strerror or error}.",
        f"Set {places.STATE_DIRECTORY_VARIABLE} to a directory of yours.",
    )


def start(state: str) -> None:
    """Start the daemon in a session of its own and wait until it says that it listens. Raises NotConnected."""
    import select
    import subprocess

    path = places.daemon_log(state)
    try:
        # Without waiting: a pipe there may have nobody who reads.
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unwritable(error, state) from None
    written_before = os.fstat(log).st_size
    ready, tell_ready = os.pipe()
    # The code beside this file, whatever the client's working directory holds: a project must not lend us modules.
    code = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    daemon = subprocess.Popen(
        [sys.executable, "-m", "mcp_spaces", "serve", "--ready-fd", str(tell_ready)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=code,
        env=scrubbed(os.environ, state),
        pass_fds=(tell_ready,),
        start_new_session=True,
    )
    os.close(tell_ready)
    os.close(log)
    # The end of the pipe means that the daemon died, or that it closed its end without listening.
    waiting = select.poll()
    waiting.register(ready, select.POLLIN)
    if not waiting.poll(ready_within_s(os.environ) * 1000):
        daemon.kill()
    elif os.read(ready, 1):
        os.close(ready)
        return
    os.close(ready)
    daemon.wait()
    with open(path, "rb") as reader:
        reader.seek(written_before)
        last_lines = reader.read().decode(errors="replace").splitlines()[-8:]
    raise NotConnected(EXIT_NO_DAEMON, "The daemon could not start.", *last_lines, f"The whole log is in {path}.")


def ready_within_s(environment: Mapping[str, str]) -> float:
    """How long a daemon may take to listen: longer than it gives itself."""
    try:
        said = float(environment.get("MCP_SPACES_START_S", READY_S))
        return min(max(READY_S, said), READY_S_MAX) + IMPORTING_S
    except ValueError:
        return READY_S + IMPORTING_S  # the daemon says what is wrong with it


def scrubbed(environment: Mapping[str, str], state: str) -> dict[str, str]:
    """What the daemon may know of the environment that it was started from."""
    kept = {
        name: value
        for name, value in environment.items()
        if (name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)) and name != "MCP_SPACES_KEY"
    }
    return kept | {places.STATE_DIRECTORY_VARIABLE: state}


def erase_keys() -> None:
    """Take the vault's keys out of what /proc shows of this process for as long as its client lives (threat V14)."""
    if not any(name in os.environb for name in READ_ONCE):
        return
    try:
        with open("/proc/self/environ", "rb") as file:
            block = file.read()
        with open("/proc/self/stat", "rb") as file:
            # Behind the program's name, which may hold anything, the third field is the first; the 50th is env_start.
            at = int(file.read().rpartition(b")")[2].split()[47])
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        for entry in block.split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name in READ_ONCE:
                os.pwrite(memory, bytes(len(value)), at + len(name) + 1)
            at += len(entry) + 1
        os.close(memory)
    except OSError:
        pass  # a kernel that lets no process write there


def are_pipes(*fds: int) -> bool:
    """Whether the daemon can wait for each of them by itself: pipes, or sockets as Node makes them, not one for both."""
    found = [os.fstat(fd) for fd in fds]
    apart = len({(one.st_dev, one.st_ino) for one in found}) == len(found)
    return apart and all(stat.S_ISFIFO(one.st_mode) or stat.S_ISSOCK(one.st_mode) for one in found)


def lend_pipes(connection: _socket.socket, greeting: bytes) -> None:
    """From now on the client and the daemon talk without us, which saves each call two wake-ups."""
    both = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1))
    greet(connection, greeting, [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, both)])


def greet(connection: _socket.socket, greeting: bytes, lent: Sequence[tuple[int, int, bytes]] = ()) -> None:
    """A daemon that turned us away unheard may have closed already. What it said can still be read."""
    try:
        connection.sendmsg([greeting], lent)
    except OSError:
        pass


def wait(connection: _socket.socket, *, log: str) -> NoReturn:
    """Until the client left, as the daemon says, or the daemon did."""
    try:
        said = connection.recv(CHUNK_BYTES)
        if said == CLIENT_LEFT:
            leave(0)
        # It did not take the pipes, and tells the client why.
        os.write(1, said)
    except OSError:
        pass
    give_up_without_daemon(log)


def copy_both_ways(connection: _socket.socket, *, log: str) -> NoReturn:
    """Copy until the daemon closes the connection, which it also does after the client's last byte."""
    client_left = _thread.allocate_lock()
    for fd in (0, 1):
        # A client that never waits may have made them so for us, too: a copy would end where nothing is there yet.
        os.set_blocking(fd, True)

    def copy_from_client() -> None:
        while chunk := from_client():
            try:
                connection.sendall(chunk)
            except OSError:
                return  # the daemon is gone; the other direction says so
        client_left.acquire(blocking=False)
        connection.shutdown(_socket.SHUT_WR)

    _thread.start_new_thread(copy_from_client, ())
    try:
        while chunk := connection.recv(CHUNK_BYTES):
            while chunk:
                chunk = chunk[os.write(1, chunk) :]
    except BrokenPipeError:
        leave(0)  # the client stopped reading: it is gone
    except OSError:
        pass
    if client_left.locked():
        leave(0)
    give_up_without_daemon(log)


def from_client() -> bytes:
    """What it says next; nothing once it is gone, as from a terminal that hung up."""
    try:
        return os.read(0, CHUNK_BYTES)
    except OSError:
        return b""


def give_up_without_daemon(log: str) -> NoReturn:
    give_up(EXIT_DAEMON_LEFT, f"The daemon closed the connection. Its log is in {log}; start this client again.")


def give_up(code: int, *lines: str) -> NoReturn:
    os.write(2, "".join(f"mcp-spaces: {line}\n" for line in lines).encode(errors="replace"))
    leave(code)


def leave(code: int) -> NoReturn:
    # The other thread may be blocked in a read for ever; a normal exit would wait for it.
    os._exit(code)
