"""The engine is killed (K03) or down (K04). A private Docker engine is killed here, never the machine's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from mcp_spaces.catalogue import CATALOGUE
from mcp_spaces.core.operation import Audience
from mcp_spaces.errors import RuntimeUnavailable
from mcp_spaces.sandbox.docker.driver import DockerDriver
from tests.sandbox.rigs import LOG
from tests.security.app import LITTLE, REAL_IMAGE, World, open_world, refusal, short_folder
from tests.security.daemons import nursery
from tests.security.lines import Said, line_to
from tests.security.prepared import NOWHERE, valid_inputs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

BRIDGE = f"mcps-{os.getpid()}"
"""At most 15 characters. Its network is of this process too: others may test on this machine."""
BRIDGE_ADDRESS = f"192.168.{os.getpid() // 32 % 256}.{os.getpid() % 32 * 8 + 1}/29"
GUARD_S = 45.0
"""The promise is two seconds, of which the ping is the wait. A busy machine adds to it, but never up to the minute
that any other call to an engine may take."""


@asynccontextmanager
async def world_on(folder: Path, engine: str) -> AsyncIterator[World]:
    driver = DockerDriver(
        instance_id=f"test-{folder.name}".replace("_", "-"),
        state_dir=folder / "state",
        image=REAL_IMAGE,
        pool_size=0,
        docker_url=engine,
        log=LOG,
    )
    async with open_world(folder, driver=driver, sandbox_image=REAL_IMAGE) as world:
        yield world


@contextmanager
def deaf_engine(folder: Path) -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "engine.sock"))
        listener.listen(64)
        yield f"unix://{folder / 'engine.sock'}"


@pytest.mark.parametrize("engine", ["absent", "deaf"])
async def test_k04_without_an_engine_every_call_answers_in_two_seconds_and_spaces_work(
    engine: str, usual_ping: float
) -> None:
    assert usual_ping < 2
    with short_folder() as folder, deaf_engine(folder) as deaf:
        url = deaf if engine == "deaf" else f"unix://{folder / 'nothing.sock'}"
        began = time.monotonic()
        async with world_on(folder, url) as world:
            assert time.monotonic() - began < GUARD_S, "the start waits for an engine"
            space = await world.space("work")
            uploaded = await world.outcome("storage.upload", space=space, path="inputs/sales.csv", content="a")
            with pytest.raises(RuntimeUnavailable) as down:
                await timed(world, "sandbox.launch", space=space)
            assert "doctor" in down.value.hint and down.value.retryable
            assert world.count("SELECT count(*) FROM runtimes") == 0
            assert (await world.call("storage.read", space=space, path="inputs/sales.csv")).content == "a"
            assert (await world.call("run.get", run=uploaded.run_id)).state == "succeeded"
            for operation in CATALOGUE:
                if operation.id not in ("space.delete", "state.backup", "sandbox.connect", "principal.grant"):
                    await answered_in_time(world, operation.id, space)
            await timed(world, "space.delete", space=space, force=True)


async def timed(world: World, operation_id: str, **arguments: object) -> None:
    began = time.monotonic()
    try:
        await world.call(operation_id, **arguments)  # type: ignore[arg-type]
    finally:
        assert time.monotonic() - began < GUARD_S, operation_id


async def answered_in_time(world: World, operation_id: str, space: str) -> None:
    operation = world.app.pipeline.operations[operation_id]
    caller = world.operator if operation.audience is Audience.OPERATOR else world.agent
    arguments = dict(valid_inputs(NOWHERE).get(operation_id, operation.example))
    if "space" in arguments:
        arguments["space"] = space
    began = time.monotonic()
    error = await refusal(world.app.pipeline.call(caller, operation_id, arguments))
    assert time.monotonic() - began < GUARD_S, operation_id
    assert error is None or (error.code != "internal" and error.hint), (operation_id, error)


@contextmanager
def private_engine(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """An engine of our own with the sandbox image in it, next to the machine's. Yields its address and its process."""
    address = f"unix://{folder / 'engine.sock'}"
    (folder / "daemon.json").write_text("{}")
    engine: list[subprocess.Popen[bytes]] = []
    # Its bridge is there to be asked about; no sandbox is ever on it.
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)
    subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", BRIDGE_ADDRESS, "dev", BRIDGE], check=True)
    with (folder / "engine.log").open("wb") as log:

        def start() -> None:
            command = [
                "dockerd", f"--host={address}", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}",
                f"--pidfile={folder / 'engine.pid'}", f"--config-file={folder / 'daemon.json'}", f"--bridge={BRIDGE}",
                "--iptables=false", "--ip6tables=false", "--live-restore", "--storage-driver=overlay2",
            ]  # fmt: skip
            engine.append(subprocess.Popen(command, stdout=log, stderr=log))
            wait_for(address, folder)

        start()
        try:
            with subprocess.Popen(["docker", "save", REAL_IMAGE], stdout=subprocess.PIPE) as saved:
                subprocess.run(["docker", "-H", address, "load"], stdin=saved.stdout, check=True, capture_output=True)
            yield address, engine
        finally:
            if engine[-1].poll() is not None:
                start()
            docker = ["docker", "-H", address]
            left = subprocess.run([*docker, "ps", "-aq"], capture_output=True, text=True).stdout.split()
            if left:
                subprocess.run([*docker, "rm", "-f", *left], capture_output=True)
            engine[-1].terminate()
            engine[-1].wait(timeout=60)
            stop_containerd(folder)
            for mount in sorted(mounts_below(folder), reverse=True):
                subprocess.run(["umount", "--lazy", mount], capture_output=True)
            shutil.rmtree(folder / "data", ignore_errors=True)
            subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True)


def wait_for(address: str, folder: Path) -> None:
    until = time.monotonic() + 60
    while subprocess.run(["docker", "-H", address, "version"], capture_output=True).returncode:
        assert time.monotonic() < until, (folder / "engine.log").read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def stop_containerd(folder: Path) -> None:
    """The one that our own engine started: its command line names our folder."""
    ours = f"--config\0{folder}/exec/containerd/containerd.toml".encode()
    until = time.monotonic() + 20
    while found := [path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline") if ours in read(path)]:
        assert time.monotonic() < until
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [words[1] for line in lines if str(folder) in (words := line.split())[1]]


async def test_k03_a_killed_engine_makes_a_call_uncertain_never_a_false_outcome_and_work_goes_on_after_it() -> None:
    with short_folder() as folder, private_engine(folder) as (address, engine):
        state = folder / "state"
        async with nursery() as nurse:
            pid = await nurse.running(state, "docker", engine=address)
            async with line_to(state) as line, line_to(state) as other:
                await line.call("space.create", name="work")
                await line.call("sandbox.launch", scope={"limits": LITTLE})
                await line.call("sandbox.write_file", path="kept.txt", content="kept")
                lost: list[Said] = []

                async def call() -> None:
                    lost.append(await line.call("sandbox.shell", command="echo began > marker; sleep 60"))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call)
                    with anyio.fail_after(20):
                        while (await other.call("sandbox.read_file", path="marker")).code is not None:
                            pass
                    engine[-1].send_signal(signal.SIGKILL)
                    engine[-1].wait(timeout=10)
                # Neither "it failed" nor "it worked": the command may go on inside.
                assert lost[0].code == "runtime_unavailable"
                (run,) = (await other.call("run.list", operation="sandbox.shell")).content["runs"]
                assert run["error_code"] == "runtime_unavailable"
                assert (await other.call("sandbox.shell", command="true")).code in (
                    "wrong_state",
                    "runtime_unavailable",
                )
                assert (await other.call("space.get")).content["state"] == "running"
            assert await nurse.stop(pid) == 0
            # The engine comes back, the daemon starts anew: the container of before is gone, its files are not.
            await anyio.to_thread.run_sync(restart, folder, address, engine)
            pid = await nurse.running(state, "docker", engine=address)
            async with line_to(state) as line:
                (before,) = (await line.call("sandbox.list")).content["sandboxes"]
                assert before["state"] in ("stopped", "failed")
                assert (await line.call("sandbox.launch", alias="main")).code is None
                assert (await line.call("sandbox.read_file", path="kept.txt")).content["content"] == "kept"
            assert await nurse.stop(pid) == 0
            left = await anyio.run_process(["docker", "-H", address, "ps", "-aq"])
            assert left.stdout.split() == []


def restart(folder: Path, address: str, engine: list[subprocess.Popen[bytes]]) -> None:
    stop_containerd(folder)
    for left in (folder / "engine.pid", folder / "exec/containerd/containerd.pid"):
        left.unlink(missing_ok=True)
    with (folder / "engine.log").open("ab") as log:
        engine.append(subprocess.Popen(engine[-1].args, stdout=log, stderr=log))
    wait_for(address, folder)
