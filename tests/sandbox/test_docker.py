"""What only the Docker driver does: pool, pinning, killing what hides, dying without leaving anything."""

# ruff: noqa: ASYNC110, ASYNC220, ASYNC221 - Docker is asked beside the driver; nothing else waits meanwhile
from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import docker.errors
import pytest
import requests.exceptions

from mcp_spaces.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    QuotaExceeded,
    RuntimeUnavailable,
    SpacesError,
    WrongState,
)
from mcp_spaces.sandbox.container import INSTANCE_LABEL
from mcp_spaces.sandbox.docker import DockerDriver
from mcp_spaces.sandbox.engine import translated
from mcp_spaces.sandbox.port import Sandbox, SandboxLimits, SandboxSpec
from tests.sandbox.rigs import (
    BARE_IMAGE,
    IMAGE,
    LOG,
    PATIENCE_S,
    SMALL,
    Output,
    docker_driver,
    eventually_empty,
    python,
    run,
    sandbox_of,
    shell,
    start,
)

pytestmark = pytest.mark.anyio
GUARD_S = 20.0
"""Far below the minute that other calls to an engine may take, far above what a busy machine needs."""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[DockerDriver]:
    async with docker_driver(tmp_path) as driver:
        yield driver


@pytest.fixture
async def sandbox(driver: DockerDriver) -> AsyncIterator[Sandbox]:
    async with sandbox_of(driver) as launched:
        yield launched


def containers(instance_id: str, *filters: str) -> list[str]:
    command = ["docker", "ps", "-aq", "--no-trunc"]
    for one in (f"label={INSTANCE_LABEL}={instance_id}", *filters):
        command += ["--filter", one]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def inspected(container_id: str) -> dict[str, object]:
    found = subprocess.run(["docker", "inspect", container_id], capture_output=True, text=True, check=True).stdout
    answer: dict[str, object] = json.loads(found)[0]
    return answer


# Killing what hides

HIDERS = {
    "a session of its own": "setsid sleep 61.25 & echo up; wait",
    "an empty environment": "env -i setsid sleep 61.25 & echo up; wait",
    "a double fork": "(setsid sh -c 'setsid sleep 61.25 & exit' &); echo up; sleep 60",
    "ignored signals": "trap '' TERM INT HUP; (trap '' TERM INT HUP; sleep 61.25) & echo up; wait",
    "many children": "for i in 1 2 3 4 5 6 7 8 9; do setsid sleep 61.25 & done; echo up; wait",
}


@pytest.mark.parametrize("way", HIDERS)
async def test_nothing_hides_from_a_kill(sandbox: Sandbox, way: str) -> None:
    output = Output()
    process = await start(sandbox, "sh", "-c", HIDERS[way], output=output)
    await output.until(b"up")
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
    assert (await shell(sandbox, "pgrep -f 'sleep 61[.]25'")).stdout == b""


COMET = """
import os, sys
print("up", flush=True)
for fd in (0, 1, 2):
    os.close(fd)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""


async def test_a_process_that_forks_and_exits_without_pause_is_killed(sandbox: Sandbox) -> None:
    output = Output()
    process = await start(sandbox, "python3", "-S", "-c", COMET, output=output)
    await output.until(b"up")
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
    assert (await shell(sandbox, "pgrep -f 'os[.]setsid'")).stdout == b""


async def test_left_behind_processes_are_killed_with_their_command(sandbox: Sandbox) -> None:
    process = await start(sandbox, "sh", "-c", "setsid sleep 62.5 >/dev/null 2>&1 &")
    await process.wait()
    assert (await shell(sandbox, "pgrep -f 'sleep 62[.]5'")).stdout != b""
    await process.kill()
    assert (await shell(sandbox, "pgrep -f 'sleep 62[.]5'")).stdout == b""


async def test_a_command_that_kills_its_supervisor_is_killed_itself(sandbox: Sandbox) -> None:
    other = Output()
    watched = await start(sandbox, "sh", "-c", "echo on; read x; echo $x", output=other)
    await other.until(b"on")
    process = await start(sandbox, "sh", "-c", "setsid sleep 63.5 & kill -9 $PPID; sleep 63.5")
    with anyio.fail_after(PATIENCE_S):
        assert (await process.wait()).exit_code == 137
    await eventually_empty(sandbox, "pgrep -f 'sleep 63[.]5'")
    await watched.write(b"fine\n")
    with anyio.fail_after(PATIENCE_S):
        await watched.wait()
    assert b"fine" in other.stdout


async def test_a_command_that_stops_its_supervisor_is_killed_when_asked(sandbox: Sandbox) -> None:
    output = Output()
    process = await start(sandbox, "sh", "-c", "kill -STOP $PPID; echo stopped; sleep 64.5", output=output)
    await output.until(b"stopped")
    with anyio.fail_after(PATIENCE_S):
        await process.kill()
        assert (await process.wait()).exit_code == 137
    assert (await shell(sandbox, "pgrep -f 'sleep 64[.]5'")).stdout == b""


async def test_killing_everything_in_reach_leaves_the_sandbox_usable(sandbox: Sandbox) -> None:
    # Every supervisor dies with it; process 1 is out of a signal's reach.
    await shell(sandbox, "kill -INT 1; kill -STOP 1; kill -KILL 1; kill -9 -1")
    with anyio.fail_after(PATIENCE_S):
        while (await shell(sandbox, "echo back")).stdout != b"back\n":
            await anyio.sleep(0.02)


async def test_the_agent_is_closed_to_the_commands(sandbox: Sandbox) -> None:
    ran = await shell(
        sandbox, "ls /proc/1/fd; cat /proc/1/mem; cat /proc/1/environ; ls -l /proc/self/fd | grep -c pipe"
    )
    assert ran.stderr.count(b"Permission denied") == 3
    # stdin, stdout and stderr (ls has a pipe to grep for stdout), and nothing of the agent's.
    assert ran.stdout.strip() == b"3"


async def test_a_thousand_commands_leave_no_process_and_no_descriptor(sandbox: Sandbox) -> None:
    await run(sandbox, "true")
    before = (await sandbox.usage()).pids
    for _ in range(1000):
        assert (await run(sandbox, "true")).exit.exit_code == 0
    assert (await sandbox.usage()).pids <= before + 2


# Pool


async def test_a_warm_sandbox_is_handed_out_once(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        launched: list[Sandbox] = []

        async def launch(runtime_id: str) -> None:
            launched.append(await driver.launch(SandboxSpec(runtime_id, IMAGE, SMALL)))

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(launch, f"runtime-{number}")
        ids = [sandbox.container_id for sandbox in launched]
        assert len(set(ids)) == 4
        assert ids.count(warm) == 1
        for sandbox in launched:
            assert (await sandbox.list_files(".")).entries == ()


async def test_a_claimed_sandbox_keeps_its_files_under_the_runtimes_name(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        async with sandbox_of(driver, runtime_id="mine") as sandbox:
            assert sandbox.container_id == warm
            with anyio.fail_after(PATIENCE_S):
                while inspected(warm)["Name"] != f"/mcp-spaces-{driver.instance_id}-mine":
                    await anyio.sleep(0.02)
            await sandbox.write_file("kept", b"1", overwrite=False)
        await driver.warm(SMALL)
        async with sandbox_of(driver, runtime_id="mine") as again:
            assert (await again.read_file("kept", limit=5)).content == b"1"


async def test_the_agent_is_listed_by_its_name_and_survives_who_kills_every_python(sandbox: Sandbox) -> None:
    listed = (await shell(sandbox, "ps -eo comm=,args=")).stdout.decode().splitlines()
    ours = [line.split() for line in listed if line.startswith("mcp-spaces")]
    assert len(ours) >= 2
    assert all(words == ["mcp-spaces", "mcp-spaces"] for words in ours)
    assert not any("python" in line for line in listed)
    background = await start(sandbox, "sleep", "67.25")
    killed = await shell(
        sandbox, "python3 -c 'import time; time.sleep(60)' & sleep 0.2; pkill python3; wait $!; echo $?"
    )
    assert killed.stdout == b"143\n"
    assert (await shell(sandbox, "pgrep -x sleep")).stdout != b""
    await background.kill()


async def test_what_python_prints_comes_at_once(sandbox: Sandbox) -> None:
    output = Output()
    server = await start(sandbox, "python3", "-c", "import time; print('serving'); time.sleep(60)", output=output)
    await output.until(b"serving")
    await server.kill()


async def test_a_sandbox_says_what_its_image_holds(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        async with (
            sandbox_of(driver, runtime_id="warm") as warm,
            sandbox_of(driver, runtime_id="bare", image=BARE_IMAGE) as bare,
        ):
            assert warm.image_id == inspected(warm.container_id)["Image"]
            assert bare.image_id == inspected(bare.container_id)["Image"]
            assert warm.image_id != bare.image_id


async def test_a_dead_warm_sandbox_is_not_handed_out(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        subprocess.run(["docker", "kill", warm], check=True, capture_output=True)
        async with sandbox_of(driver) as sandbox:
            assert sandbox.container_id != warm
            assert (await shell(sandbox, "echo well")).stdout == b"well\n"


async def test_other_limits_do_not_get_the_warm_sandbox(tmp_path: Path) -> None:
    async with docker_driver(tmp_path, pool_size=1) as driver:
        await driver.warm(SMALL)
        (warm,) = containers(driver.instance_id)
        async with sandbox_of(driver, limits=SandboxLimits(memory_bytes=128 << 20, disk_bytes=64 << 20)) as sandbox:
            assert sandbox.container_id != warm


# Engine


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


async def test_a_missing_image_is_never_pulled(driver: DockerDriver) -> None:
    with pytest.raises(RuntimeUnavailable) as caught:
        await driver.launch(SandboxSpec("runtime", "127.0.0.1:1/never/pulled:1", SMALL))
    assert "make image" in caught.value.hint
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


# Dying


async def test_a_failed_launch_leaves_nothing(driver: DockerDriver, tmp_path: Path) -> None:
    # More cores than the host has: the engine refuses at creation, after the disk was made.
    with pytest.raises(RuntimeUnavailable):
        await driver.launch(SandboxSpec("runtime", IMAGE, SandboxLimits(cpu_cores=1000, disk_bytes=64 << 20)))
    assert containers(driver.instance_id) == []
    assert list((tmp_path / "workspaces").glob("*.ext4")) == []


async def test_a_cancelled_launch_leaves_nothing_running(driver: DockerDriver) -> None:
    for patience_s in (0.0, 0.02, 0.06, 0.1, 0.15):
        with anyio.move_on_after(patience_s):
            sandbox = await driver.launch(SandboxSpec("runtime", IMAGE, SMALL))
            await sandbox.stop()
        with anyio.fail_after(PATIENCE_S):
            while containers(driver.instance_id):
                await anyio.sleep(0.02)


async def test_a_container_killed_from_outside_is_noticed(driver: DockerDriver, sandbox: Sandbox) -> None:
    process = await start(sandbox, "sleep", "60")
    subprocess.run(["docker", "kill", sandbox.container_id], check=True, capture_output=True)
    with anyio.fail_after(PATIENCE_S):
        assert await sandbox.closed()
        with pytest.raises(RuntimeUnavailable):
            await process.wait()
        # Nobody stopped it, and yet the runtime can be launched again.
        async with sandbox_of(driver) as again:
            assert (await shell(again, "echo here")).stdout == b"here\n"


async def test_reaping_never_touches_another_instance(driver: DockerDriver, tmp_path: Path) -> None:
    async with docker_driver(tmp_path / "other") as other, sandbox_of(other) as foreign:
        assert await driver.reap(keep=()) == []
        assert (await shell(foreign, "echo here")).stdout == b"here\n"


async def test_reaping_takes_what_a_dead_process_left(driver: DockerDriver, tmp_path: Path) -> None:
    left = subprocess.run(
        ["docker", "create", "--label", f"{INSTANCE_LABEL}={driver.instance_id}", "--name",
         f"mcp-spaces-{driver.instance_id}-left", IMAGE, "true"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (tmp_path / "workspaces").mkdir(exist_ok=True)
    (tmp_path / "workspaces" / "pool-1234.ext4").write_bytes(b"")
    (tmp_path / "workspaces" / "kept.ext4").write_bytes(b"")
    assert await driver.reap(keep={"kept", "left"}) == ["left", "pool-1234"]
    assert containers(driver.instance_id) == []
    assert (tmp_path / "workspaces" / "kept.ext4").exists()
    assert left


DAEMON = """
import asyncio, logging, sys
from pathlib import Path
from mcp_spaces.sandbox.docker import DockerDriver
from mcp_spaces.sandbox.port import Command, SandboxLimits, SandboxSpec

async def main():
    driver = DockerDriver(instance_id=sys.argv[1], state_dir=Path(sys.argv[2]), image=sys.argv[3], pool_size=1,
                          log=logging.getLogger("daemon"))
    limits = SandboxLimits(memory_bytes=128 << 20, disk_bytes=64 << 20)
    for number in range(3):
        print("launching", flush=True)
        sandbox = await driver.launch(SandboxSpec(f"runtime-{number}", sys.argv[3], limits))
        await sandbox.start(Command(["sleep", "65.25"]), output=lambda *_: None)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("delay_s", [None, 0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3])
async def test_a_killed_daemon_leaves_nothing_that_a_reap_does_not_find(tmp_path: Path, delay_s: float | None) -> None:
    async with docker_driver(tmp_path) as driver:
        daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, driver.instance_id, str(tmp_path), IMAGE],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        )  # fmt: skip
        assert daemon.stdout is not None
        words = "ready" if delay_s is None else "launching"
        await anyio.to_thread.run_sync(lambda: _read_until(daemon, words))
        # The instant of the kill is what varies.
        await anyio.sleep(delay_s or 0)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        daemon.stdout.close()
        if delay_s is None:
            # What was running goes by itself, without a reap: its stream ended. What was only created, does not.
            with anyio.fail_after(PATIENCE_S):
                while containers(driver.instance_id, "status=running"):
                    await anyio.sleep(0.05)
        # A create that was under way may land in the engine after a reap, and so may be its disk's end.
        with anyio.fail_after(PATIENCE_S):
            while await _reaped_left(driver, tmp_path):
                await anyio.sleep(0.05)


async def _reaped_left(driver: DockerDriver, folder: Path) -> list[str]:
    """What is there after a reap; tried again when the engine is at the same container itself."""
    try:
        await driver.reap(keep=())
    except (Conflict, RuntimeUnavailable) as error:
        return [error.message]
    disks = [path.name for path in (folder / "workspaces").glob("*.ext4")]
    return containers(driver.instance_id) + disks + [line for line in _loop_files() if str(folder) in line]


async def test_k05_a_container_that_comes_after_the_reap_is_removed_and_what_runs_is_not(tmp_path: Path) -> None:
    """A create that was under way when its daemon was killed."""
    created = anyio.Event()
    async with docker_driver(tmp_path, later=created.wait) as driver:
        await driver.reap(keep=())
        async with sandbox_of(driver) as sandbox:
            label = f"{INSTANCE_LABEL}={driver.instance_id}"
            create = ["docker", "create", "--label", label, "--label", "mcp-spaces.driver=dead", IMAGE, "true"]
            subprocess.run(create, capture_output=True, check=True)
            created.set()
            with anyio.fail_after(PATIENCE_S):
                while containers(driver.instance_id) != [sandbox.container_id]:
                    await anyio.sleep(0.02)
            assert (await shell(sandbox, "echo here")).stdout == b"here\n"


def _read_until(daemon: subprocess.Popen[str], words: str) -> None:
    assert daemon.stdout is not None
    watchdog = threading.Timer(PATIENCE_S, daemon.kill)
    watchdog.start()
    for line in daemon.stdout:
        if words in line:
            break
    watchdog.cancel()


def _loop_files() -> list[str]:
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.append(backing.read_text().strip())
        except OSError:
            continue
    return found


# Small things


async def test_output_of_a_slow_reader_does_not_stop_the_others(sandbox: Sandbox) -> None:
    flood = await start(sandbox, "sh", "-c", "cat /dev/zero")
    try:
        for _ in range(20):
            # `run` itself waits no longer than PATIENCE_S, and the flood never ends.
            assert (await run(sandbox, "echo", "in time")).stdout == b"in time\n"
    finally:
        await flood.kill()


async def test_a_process_limit_is_an_error_and_not_the_end(sandbox: Sandbox) -> None:
    hogs = await start(sandbox, "sh", "-c", "for i in $(seq 80); do sleep 66.5 & done; echo up; wait")
    with anyio.fail_after(PATIENCE_S):
        refused = 0
        for _ in range(40):
            try:
                await run(sandbox, "sleep", "0.3")
            except QuotaExceeded:
                refused += 1
                break
            await anyio.sleep(0.02)
    await hogs.kill()
    with anyio.fail_after(PATIENCE_S):
        assert (await run(sandbox, "echo", "again")).stdout == b"again\n"


async def test_a_tree_a_thousand_folders_deep_can_be_deleted(sandbox: Sandbox) -> None:
    await python(sandbox, "import os\nfor _ in range(1000):\n os.mkdir('d' * 50); os.chdir('d' * 50)")
    with anyio.fail_after(PATIENCE_S):
        assert await sandbox.delete_file("d" * 50, recursive=True) == 1000
    with pytest.raises(NotFound):
        await sandbox.stat("d" * 50)


async def test_long_arguments_arrive(sandbox: Sandbox) -> None:
    assert (await run(sandbox, "printf", "%s", "x" * 100_000)).stdout == b"x" * 100_000
    with pytest.raises(InvalidInput):
        await run(sandbox, "printf", "%s", "x" * 300_000)


async def test_a_script_without_a_first_line_is_the_shells(sandbox: Sandbox) -> None:
    await sandbox.write_file("script", b"echo from the shell $1\n", overwrite=False)
    await run(sandbox, "chmod", "+x", "script")
    assert (await run(sandbox, "./script", "x")).stdout == b"from the shell x\n"


async def test_terminals_end_at_the_end_of_input(sandbox: Sandbox) -> None:
    from mcp_spaces.sandbox.port import TerminalSize

    output = Output()
    process = await start(sandbox, "cat", output=output, terminal=TerminalSize(24, 80))
    await process.write(b"line\n")
    await output.until(b"line\r\nline\r\n")
    await process.close_stdin()
    with anyio.fail_after(PATIENCE_S):
        assert (await process.wait()).exit_code == 0
    with pytest.raises(WrongState):
        await process.write(b"x")
