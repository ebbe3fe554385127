"""Browser tools beside @playwright/mcp: the same pages, the same headless shell, the same raw client, in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil

from benchmarks.browser_sides import Ours, Theirs, peer, text_of, tokens_in
from benchmarks.browser_site import site
from benchmarks.daemons import Daemon, running
from benchmarks.measure import Line, Series, Target, repeated, timed

COUNT = 30
NEW_CLIENTS = 5
RUNTIMES = 5


def lines() -> Iterator[Line]:
    """What the peer cannot be measured without is installed by `scripts/setup node`."""
    with site() as port, _daemon(port) as daemon, ExitStack() as open_things:
        _permit(daemon)
        ours = Ours(open_things.enter_context(daemon.client()))
        _prepare(ours)
        theirs = Theirs(open_things.enter_context(peer()))
        here, there = f"http://app.test:{port}", f"http://127.0.0.1:{port}"
        yield _first_page(daemon, here, there)
        theirs.navigate(f"{there}/links")
        ours.navigate(f"{here}/links")
        yield _line("browser: navigate, 100 links", lambda side, base: side.navigate(f"{base}/links"), ours, theirs, here, there, 100)  # fmt: skip
        yield _line("browser: snapshot, 100 links", lambda side, _: side.snapshot(), ours, theirs, here, there, 15)
        sizes = [Series([float(len(text_of(side.snapshot())))]) for side in (ours, theirs)]
        yield Line(what="browser: bytes of that snapshot", unit="bytes", ours=sizes[0], baseline=sizes[1], against=AGAINST, targets=[Target(0.4, of_baseline=True)])  # fmt: skip
        yield _line("browser: click, with settling", lambda side, _: side.click("Press"), ours, theirs, here, there, 60)
        yield _line("browser: evaluate", lambda side, _: side.evaluate(), ours, theirs, here, there, 12)
        yield _line("browser: screenshot", lambda side, _: side.screenshot(), ours, theirs, here, there, 60)
        ours.navigate(f"{here}/form")
        theirs.navigate(f"{there}/form")
        yield _line("browser: fill a field", lambda side, _: side.fill("Name", "Ann"), ours, theirs, here, there, None)
        yield from _task(ours, theirs, here, there)
        yield from _memory(daemon, ours, theirs)
        yield _cycles(ours)


AGAINST = "@playwright/mcp, same headless shell"


def _line(what: str, action: Any, ours: Ours, theirs: Theirs, here: str, there: str, target: float | None) -> Line:
    return Line(
        what=what,
        unit="ms",
        ours=repeated(lambda: action(ours, here), count=COUNT),
        baseline=repeated(lambda: action(theirs, there), count=max(COUNT // 3, 5)),
        against=AGAINST,
        targets=[] if target is None else [Target(target)],
    )


def _first_page(daemon: Daemon, here: str, there: str) -> Line:
    """A new client: spawned, initialized, a browser launched, its first page loaded. The daemon is warm."""

    def new_client() -> float:
        def first() -> None:
            with daemon.client() as client:
                client.call("browser_launch", space="bench", alias="fresh")
                client.call("browser_navigate", space="bench", runtime="fresh", url=f"{here}/links")

        took = timed(first)
        with daemon.client() as client:
            client.call("operation_call", operation="browser.delete", input={"space": "bench", "runtime": "fresh"})
        return took

    def new_peer() -> None:
        with peer() as client:
            client.call_text("browser_navigate", url=f"{there}/links")

    return Line(
        what="browser: new client to first page",
        unit="ms",
        ours=Series([new_client() for _ in range(NEW_CLIENTS)]),
        baseline=Series([timed(new_peer) for _ in range(NEW_CLIENTS)]),
        against=AGAINST,
        targets=[Target(500)],
    )


def _task(ours: Ours, theirs: Theirs, here: str, there: str) -> Iterator[Line]:
    """Ten steps of an order: what a model has to read for them."""
    took: list[float] = []
    for side, base in ((ours, here), (theirs, there)):
        side.answers.clear()
        began = time.perf_counter()
        side.navigate(f"{base}/form")
        side.fill("Name", "Ann")
        side.fill("Street", "Main 1")
        side.fill("Town", "Springfield")
        side.select("Size", "large")
        side.check("As a gift")
        side.click("Send the order")
        side.click("All items")
        side.click("Item number 42")
        side.snapshot()
        took.append((time.perf_counter() - began) * 1000)
    texts = [ours.answers, theirs.answers]
    sizes = [sum(len(text) for text in side) for side in texts]
    yield Line(what="browser: a task of ten steps", unit="ms", ours=Series([took[0]]), baseline=Series([took[1]]), against=AGAINST)  # fmt: skip
    yield Line(what="browser: bytes read for it", unit="bytes", ours=Series([sizes[0]]), baseline=Series([sizes[1]]), against=AGAINST, targets=[Target(0.4, of_baseline=True)])  # fmt: skip
    tokens = [float(tokens_in("\n".join(side))) for side in texts]
    yield Line(what="browser: tokens read for it (o200k)", unit="tokens", ours=Series([tokens[0]]), baseline=Series([tokens[1]]), against=AGAINST)  # fmt: skip


def _memory(daemon: Daemon, ours: Ours, theirs: Theirs) -> Iterator[Line]:
    """Of further runtimes as they are launched, with a blank page each, in the browser's container; and of the whole peer."""
    url, before = ours.url, 0.0
    # The first one also pays for what the browser gathers once.
    for number in range(RUNTIMES + 1):
        ours.call("browser_launch", alias=f"more-{number}")
        if number == 0:
            ours.call("browser_navigate", runtime="more-0", url=url)
            before = _container_mb(daemon)
    after = _container_mb(daemon)
    yield Line(
        what="browser: memory of a further runtime",
        unit="MB",
        ours=Series([(after - before) / RUNTIMES]),
        targets=[Target(20)],
    )
    process = theirs.client.process
    assert process is not None
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    whole = sum(one.memory_full_info().pss for one in tree) / 1e6
    driver = sum(
        one.memory_full_info().pss for one in psutil.Process(daemon.pid).children(recursive=True) if one.is_running()
    )
    yield Line(
        what="browser: memory of the browser and Playwright's driver",
        unit="MB",
        ours=Series([before + driver / 1e6]),
        baseline=Series([whole]),
        against=AGAINST,
    )
    for number in range(RUNTIMES + 1):
        ours.other("browser.delete", runtime=f"more-{number}")


def _cycles(ours: Ours) -> Line:
    """Open and close, a thousand times: what one costs."""

    def cycle() -> None:
        ours.call("browser_launch", alias="cycle")
        ours.other("browser.delete", runtime="cycle")

    return Line(
        what="browser: launch and delete, 1,000 times", unit="ms", ours=Series([timed(cycle) for _ in range(1000)])
    )


LIMITS = {"runtimes": 16, "memory_bytes": 16 << 30, "cpu_cores": 16, "pids": 4096, "disk_bytes": 64 << 30}


def _permit(daemon: Daemon) -> None:
    with daemon.operator() as operator:
        agent = next(one for one in operator.call("principal_list")["principals"] if one["kind"] == "agent")
        scope = {"network": {"mode": "open"}, "limits": LIMITS}
        operator.call("principal_grant", principal=agent["id"], scope=scope, policy="permissive")


def _prepare(ours: Ours) -> None:
    ours.client.call(
        "space_create",
        name="bench",
        policy={"preset": "permissive"},
        mounts={"network": {"mode": "allowlist", "allow": ["app.test"]}},
        limits=LIMITS,
    )
    ours.call("browser_launch", alias="main")


def _daemon(port: int) -> Any:
    return running(pool_size=0, settings={"MCP_SPACES_NETWORK_PRIVATE_HOSTS": f"app.test:{port}=127.0.0.1:{port}"})


def _container_mb(daemon: Daemon) -> float:
    import docker

    found = 0.0
    for container in docker.from_env().containers.list():
        if "-browsers-" in (container.name or ""):
            usage = container.stats(stream=False)["memory_stats"]
            found += (usage["usage"] - usage["stats"].get("total_inactive_file", 0)) / 1e6
    return found
