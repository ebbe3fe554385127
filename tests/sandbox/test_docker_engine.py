"""An engine that is down, hangs, fails or lacks an image is told in time; walls and limits are what this machine has."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import docker.errors
import pytest
import requests.exceptions

from mcp_spaces.errors import InvalidInput, NotFound, RuntimeUnavailable, SpacesError
from mcp_spaces.sandbox.docker.driver import DockerDriver
from mcp_spaces.sandbox.docker.engine import Engine
from mcp_spaces.sandbox.docker.failures import translated
from mcp_spaces.sandbox.port import SandboxLimits, SandboxSpec
from tests.sandbox.leftovers import containers, inspected
from tests.sandbox.rigs import IMAGE, LOG, SMALL

GUARD_S = 20.0
"""Far below the minute that other calls to an engine may take, far above what a busy machine needs."""


@pytest.mark.usefixtures("usual_ping")
async def test_an_engine_that_is_down_is_said_within_two_seconds(tmp_path: Path) -> None:
    driver = DockerDriver(
        instance_id="down", state_dir=tmp_path, image=IMAGE, docker_url=f"unix://{tmp_path}/no.sock", log=LOG
    )
    began = time.monotonic()
    with pytest.raises(RuntimeUnavailable) as caught:
        await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
    assert time.monotonic() - began < GUARD_S
    assert "doctor" in caught.value.hint
    engine = next(wall for wall in await driver.walls() if wall.name == "engine")
    assert (engine.holds, engine.mend) == (False, "sudo systemctl start docker")
    await driver.aclose()


@pytest.fixture
def silent_engine(tmp_path: Path) -> Iterator[str]:
    """Accepts connections and says nothing, as a stopped daemon does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        yield f"unix://{tmp_path}/silent.sock"


async def test_an_engine_that_hangs_is_said_within_two_seconds(
    tmp_path: Path, silent_engine: str, usual_ping: float
) -> None:
    driver = DockerDriver(instance_id="hangs", state_dir=tmp_path, image=IMAGE, docker_url=silent_engine, log=LOG)
    began = time.monotonic()
    with pytest.raises(RuntimeUnavailable):
        await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
    assert usual_ping < 2
    assert time.monotonic() - began < GUARD_S
    await driver.aclose()


class Answering(BaseHTTPRequestHandler):
    """An engine with one image, until it is `deaf`: from then on it takes questions and answers none."""

    deaf, over = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        if self.deaf.is_set():
            self.over.wait()
        answer = b'{"ApiVersion": "1.41", "Id": "sha256:1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def test_an_engine_that_stops_answering_is_said_within_two_seconds(
    tmp_path: Path, usual_ping: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_spaces.sandbox.docker.engine.RECENT_S", 0.0)
    monkeypatch.setattr(Answering, "deaf", threading.Event())
    monkeypatch.setattr(Answering, "over", threading.Event())
    with ThreadingUnixStreamServer(str(tmp_path / "engine.sock"), Answering) as server:
        threading.Thread(target=server.serve_forever).start()
        asking = Engine(f"unix://{tmp_path}/engine.sock", log=LOG)
        try:
            assert asking.image_id("any") == "sha256:1"
            Answering.deaf.set()
            began = time.monotonic()
            with pytest.raises(RuntimeUnavailable):
                asking.image_id("any")
            assert usual_ping < 2
            assert time.monotonic() - began < GUARD_S
        finally:
            Answering.over.set()
            asking.close()
            server.shutdown()


def every_subclass(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(every_subclass(each) for each in kind.__subclasses__()))


def test_every_exception_of_the_engine_is_translated() -> None:
    foreign = every_subclass(docker.errors.DockerException) | every_subclass(requests.exceptions.RequestException)
    assert len(foreign) > 25
    for kind in foreign | {OSError, TimeoutError, ConnectionError, ValueError, KeyError}:
        error = kind.__new__(kind)
        error.args = ("private detail",)
        for name in ("response", "explanation"):
            if isinstance(error, docker.errors.APIError):
                setattr(error, name, None)
        told = translated(error) if isinstance(error, Exception) else None
        assert isinstance(told, SpacesError)
        assert "private" not in told.message + told.hint


async def test_walls_hold_on_this_machine(driver: DockerDriver) -> None:
    found = {wall.name: wall.holds for wall in await driver.walls()}
    assert found == {"engine": True, "seccomp": True, "limits": True, "cores": True, "image": True, "disk": True}


def test_an_engine_without_the_tools_of_its_kernels_apparmor_says_what_to_install() -> None:
    """As Docker 20.10 of a Debian answers where `docker.io` was installed without what it recommends."""
    told = translated(
        docker.errors.APIError(
            "AppArmor enabled on system but the docker-default profile could not be loaded: running `apparmor_parser"
            ' apparmor_parser --version` failed with output: \nerror: exec: "apparmor_parser": executable file not found'
        )
    )
    assert isinstance(told, RuntimeUnavailable) and "AppArmor" in told.message
    assert "apt-get install apparmor" in told.hint


def test_a_disk_that_the_engine_cannot_mount_is_told_as_that() -> None:
    """What a rootless one answers to a daemon of root's."""
    refused = docker.errors.APIError(
        "error while mounting volume: failed to mount local volume: operation not permitted"
    )
    told = translated(refused)
    assert isinstance(told, RuntimeUnavailable)
    assert "disk" in told.message and "rootless" in told.hint


async def test_a_rootless_engine_limits_nothing_on_cgroup_v1_and_mounts_no_disk_of_roots(
    driver: DockerDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Engine.host_facts

    def host_facts(engine: Engine) -> dict[str, object]:
        return usual(engine) | {
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
            "CgroupVersion": "1",
        }

    monkeypatch.setattr(Engine, "host_facts", host_facts)
    missing = {wall.name: wall.mend for wall in await driver.walls() if not wall.holds}
    assert set(missing) == {"limits", "disk"}
    assert "engine's user" in missing["disk"]


async def test_a_missing_image_is_never_pulled(driver: DockerDriver) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        await driver.launch(SandboxSpec("runtime", "127.0.0.1:1/never/pulled:1", SMALL))
    assert (caught.value.message, caught.value.hint) == (
        "The image 127.0.0.1:1/never/pulled:1 is missing.",
        "Run `docker pull 127.0.0.1:1/never/pulled:1`.",
    )
    assert containers(driver.instance_id) == []


async def test_limits_that_cannot_hold_are_refused(driver: DockerDriver) -> None:
    for limits in (
        SandboxLimits(memory_bytes=1 << 20),
        SandboxLimits(disk_bytes=1 << 20),
        SandboxLimits(pids=1),
        SandboxLimits(cpu_cores=0),
    ):
        with pytest.raises(InvalidInput):
            await driver.launch(SandboxSpec("runtime", IMAGE, limits))


async def test_a_live_sandbox_is_resized_and_one_that_is_not_there_is_not(driver: DockerDriver) -> None:
    more = SandboxLimits(cpu_cores=0.25, memory_bytes=192 << 20, disk_bytes=SMALL.disk_bytes, pids=99)
    await driver.launch(SandboxSpec("sized", IMAGE, SMALL))
    await driver.resize("sized", more)
    (container,) = containers(driver.instance_id)
    host = inspected(container)["HostConfig"]
    assert isinstance(host, dict)
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (
        250_000_000,
        192 << 20,
        192 << 20,
        99,
    )
    with pytest.raises(InvalidInput):
        await driver.resize("sized", SandboxLimits(memory_bytes=1 << 20))
    with pytest.raises(NotFound):
        await driver.resize("other", more)
