"""Docker's API as this room uses it: blocking calls, each with a deadline, and one border for its exceptions."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from mcp_spaces.errors import NotFound, SpacesError
from mcp_spaces.sandbox.docker.failures import translated, unreachable

if TYPE_CHECKING:
    import docker

T = TypeVar("T")

PING_TIMEOUT_S = 1.5
"""A healthy engine answers in milliseconds, a starved one later; callers are promised an answer within two seconds."""
CALL_TIMEOUT_S = 60
OLDEST_API = "1.41"
GONE_TIMEOUT_S = 20
"""How long a container may take to go."""
RECENT_S = 5.0
"""Who has answered this recently is not asked whether it lives."""
SOCKET = "unix:///var/run/docker.sock"
NO_PYTHON = 'exec: "python3"'


class Threads:
    """Runs blocking calls away from the event loop, so many at a time."""

    def __init__(self, most: int) -> None:
        self._limiter = anyio.CapacityLimiter(most)

    async def __call__(self, call: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)


@dataclass(frozen=True, slots=True)
class Hijacked:
    """A connection that is no HTTP any more, and what came over it before it was taken over."""

    socket: socket.socket
    early: bytes

    async def carry(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """From now on asyncio's. What came early is the caller's to feed first."""
        loop = asyncio.get_running_loop()
        is_unix = self.socket.family == socket.AF_UNIX
        connect = loop.create_unix_connection if is_unix else loop.create_connection
        transport, _ = await connect(lambda: protocol, sock=self.socket)
        return transport


class NoPython(Exception):
    """The image cannot run the agent: it has no python3."""


class Engine:
    """Every method blocks and raises only errors of `mcp_spaces.errors` (and NoPython)."""

    def __init__(self, url: str | None, *, log: logging.Logger) -> None:
        self.url = url or SOCKET
        self._log = log
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None
        self._quick: docker.APIClient | None = None
        self._answered_at = 0.0

    @contextmanager
    def _border(self) -> Iterator[None]:
        try:
            yield
        except (SpacesError, NoPython):
            raise
        except Exception as error:
            self._answered_at = 0.0
            told = translated(error)
            self._log.info("engine: %s: %s", type(error).__name__, str(error)[:500])
            raise told from error
        self._answered_at = time.monotonic()

    def client(self) -> docker.APIClient:
        """Raises RuntimeUnavailable in under two seconds when the engine is down or hangs."""
        import docker

        with self._lock, self._border():
            asked = self._client is None or time.monotonic() - self._answered_at > RECENT_S
            if asked and self.url.startswith("unix://"):
                # The client leaves a socket open when it cannot connect; this one is closed.
                path = self.url.removeprefix("unix://")
                with socket.socket(socket.AF_UNIX) as attempt:
                    attempt.settimeout(PING_TIMEOUT_S)
                    try:
                        attempt.connect(path)
                    except (PermissionError, FileNotFoundError, ConnectionRefusedError) as error:
                        raise unreachable(error, socket_path=path) from error
            if self._client is None or self._quick is None:
                version = self._version(docker)
                self._client = docker.APIClient(base_url=self.url, version=version, timeout=CALL_TIMEOUT_S)
                self._quick = docker.APIClient(base_url=self.url, version=version, timeout=PING_TIMEOUT_S)
            elif asked:
                self._quick.ping()
            return self._client

    def _version(self, docker: Any) -> str:
        """The newest API that both sides speak."""
        asking = docker.APIClient(base_url=self.url, version=OLDEST_API, timeout=PING_TIMEOUT_S)
        try:
            offered = str(asking.version(api_version=False)["ApiVersion"])
        finally:
            asking.close()
        ours = str(docker.constants.DEFAULT_DOCKER_API_VERSION)
        return min(offered, ours, key=lambda version: [int(part) for part in version.split(".")])

    def close(self) -> None:
        with self._lock:
            for client in (self._client, self._quick):
                if client is not None:
                    client.close()
            self._client = self._quick = None

    def _call(self, call: Callable[[docker.APIClient], T]) -> T:
        client = self.client()
        with self._border():
            return call(client)

    def image_id(self, image: str) -> str:
        """Which image the name means now; the id pins it. Never pulls."""
        return str(self._call(lambda client: client.inspect_image(image))["Id"])

    def host_facts(self) -> dict[str, Any]:
        """As `docker info` has them."""
        found: dict[str, Any] = self._call(lambda client: client.info())
        return found

    def gateways(self) -> list[str]:
        """Addresses of the host on the engine's default network; none where the engine has no such network."""
        try:
            network = self._call(lambda client: client.inspect_network("bridge"))
        except NotFound:
            return []
        return [part["Gateway"] for part in network.get("IPAM", {}).get("Config") or () if part.get("Gateway")]

    def create(self, body: Mapping[str, Any], *, name: str) -> str:
        """The new container's id; `body` is the API's own."""
        return str(self._call(lambda client: client.create_container_from_config(dict(body), name))["Id"])

    def attach(self, container_id: str) -> Hijacked:
        """The container's three streams as one socket, before it starts."""
        client = self.client()
        with self._border():
            wrapped = client.attach_socket(container_id, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        return _taken_over(wrapped)

    def start(self, container_id: str) -> None:
        """Raises NoPython when the image has no such program."""
        import docker.errors

        client = self.client()
        with self._border():
            try:
                client.start(container_id)
            except docker.errors.APIError as error:
                if NO_PYTHON in str(error):
                    raise NoPython from error
                raise

    def inspect(self, container_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call(lambda client: client.inspect_container(container_id))
        return found

    def rename(self, container_id: str, name: str) -> None:
        self._call(lambda client: client.rename(container_id, name))

    def update(self, container_id: str, sizes: Mapping[str, int]) -> None:
        """docker's own `update_container` knows neither processes nor parts of a processor."""

        def post(client: docker.APIClient) -> None:
            url = f"{client.base_url}/v{client.api_version}/containers/{container_id}/update"
            client._raise_for_status(client.post(url, json=dict(sizes), timeout=CALL_TIMEOUT_S))

        self._call(post)

    def containers(self, label: str) -> list[dict[str, Any]]:
        """Those with `name=value`, running or not, as the engine lists them: Id, Names, Labels."""
        found: list[dict[str, Any]] = self._call(lambda client: client.containers(all=True, filters={"label": label}))
        return found

    def remove(self, container_id: str) -> None:
        """Until it is gone, its anonymous volume with it. Idempotent."""
        import docker.errors

        client = self.client()
        until = time.monotonic() + GONE_TIMEOUT_S
        with self._border():
            while True:
                try:
                    client.remove_container(container_id, force=True, v=True)
                except docker.errors.NotFound:
                    return
                except docker.errors.APIError as error:
                    # 409: it is being removed already, by its own AutoRemove.
                    if time.monotonic() > until or error.status_code not in (409, 500):
                        raise
                    time.sleep(0.02)
                # Asked again until it is not found: a removal under way is not a removal.

    def volumes(self, label: str) -> list[dict[str, Any]]:
        """Those with `name=value`, as the engine lists them: Name, Labels."""
        return list(self._call(lambda client: client.volumes(filters={"label": label})).get("Volumes") or ())

    def has_volume(self, name: str) -> bool:
        import docker.errors

        client = self.client()
        with self._border():
            try:
                client.inspect_volume(name)
            except docker.errors.NotFound:
                return False
        return True

    def remove_volume(self, name: str) -> None:
        import docker.errors

        client = self.client()
        with self._border():
            try:
                client.remove_volume(name)
            except docker.errors.NotFound:
                return

    def create_exec(self, container_id: str, argv: Sequence[str], **options: Any) -> str:
        return str(self._call(lambda client: client.exec_create(container_id, list(argv), **options))["Id"])

    def start_exec(self, exec_id: str, *, tty: bool) -> Hijacked:
        client = self.client()
        with self._border():
            wrapped = client.exec_start(exec_id, socket=True, tty=tty)
        return _taken_over(wrapped)

    def inspect_exec(self, exec_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call(lambda client: client.exec_inspect(exec_id))
        return found

    def resize_exec(self, exec_id: str, *, rows: int, columns: int) -> None:
        self._call(lambda client: client.exec_resize(exec_id, height=rows, width=columns))


def _taken_over(wrapped: Any) -> Hijacked:
    """The socket below a hijacked answer, taken from the HTTP client, which would close it when it likes."""
    connection: socket.socket = getattr(wrapped, "_sock", wrapped)
    connection.setblocking(False)
    # What the other end said at once stands in the client's buffer, behind the headers of its answer.
    buffered = wrapped._response.raw._fp.fp
    early = buffered.read(len(buffered.peek() or b"")) or b""
    return Hijacked(socket.socket(fileno=connection.detach()), bytes(early))
