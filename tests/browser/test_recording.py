"""Recordings of the real browser: what is in them, and what never is."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_spaces.browser import acting
from mcp_spaces.browser.record import recording
from mcp_spaces.browser.record.video import RATE, Film, jpeg_size
from mcp_spaces.errors import DiskFull, WrongState
from mcp_spaces.runs.artifacts import ArtifactStore
from mcp_spaces.runs.store import RunStore
from tests.browser.room import Room, open_room
from tests.folders import files_of_at_most, fill, small_disk

pytestmark = pytest.mark.anyio

PATIENCE_S = 20
COOKIE, POSTED = "canary-session-cookie", "canary-posted-text"
PAGES = {
    "/": "<title>Shop</title><h1>Orders</h1><form method=post action=/post>"
    f"<input name=a value={POSTED}><button>Send</button></form>"
    "<button type=button onclick=\"document.body.style.background = 'red'\">Paint</button>",
}


@pytest.fixture(scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    async with open_room(tmp_path_factory.mktemp("room"), pages=PAGES) as room:
        yield room


@pytest.fixture
async def room(opened: Room) -> AsyncIterator[Room]:
    opened.runtime = await opened.launched()
    opened.site.headers = {"Set-Cookie": f"session={COOKIE}; Path=/; HttpOnly"}
    yield opened
    await opened.call("browser.delete")


async def content(room: Room, artifact_id: str) -> bytes:
    store = room.use(ArtifactStore)
    artifact = store.get(artifact_id)
    assert artifact is not None
    with store.open(artifact) as reader:
        return await reader.read(0, artifact.size_bytes)


async def ref_of(room: Room, words: str) -> str:
    seen = await room.call("browser.snapshot")
    line = next(one for one in seen.snapshot.splitlines() if words in one)
    return str(next(word for word in line.split() if word[0] == "e" and word[1:].isdigit()))


def events_of(room: Room, run_id: str, kind: str) -> list[dict[str, Any]]:
    lines = room.use(RunStore).events(run_id, after=0, limit=200)
    return [json.loads(json.dumps(line.body)) for line in lines if line.type == kind]


async def test_a_recording_is_a_trace_and_a_film_with_the_run_that_ends_it(room: Room) -> None:
    await room.call("browser.record_start")
    await room.call("browser.navigate", url=room.url)
    await room.call("browser.click", ref=await ref_of(room, "Paint"))
    outcome = await room.outcome("browser.record_stop")
    files = {one["name"]: one for one in outcome.output.model_dump()["files"]}
    assert set(files) == {"trace.zip", "film.avi"}
    kept = {one.id for one in room.use(ArtifactStore).of_run(outcome.run_id)}
    assert {one["artifact"] for one in files.values()} == kept
    trace = zipfile.ZipFile(BytesIO(await content(room, files["trace.zip"]["artifact"])))
    assert {"trace.trace", "trace.network"} <= set(trace.namelist())
    lines = [json.loads(line) for line in trace.read("trace.trace").decode().splitlines()]
    assert lines[0]["type"] == "context-options" and any(one["type"] == "frame-snapshot" for one in lines)
    assert any(name.endswith(".jpeg") for name in trace.namelist())
    film = frames_of(await content(room, files["film.avi"]["artifact"]))
    assert film and film[0] and all(jpeg_size(one) is not None for one in film if one)
    with pytest.raises(WrongState):
        await room.call("browser.record_stop")


async def test_every_action_stands_in_the_timeline_and_while_recording_with_a_small_picture(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An action is no worse without them, and on a busy machine is done before they are there.
    monkeypatch.setattr(acting, "DESCRIBED_S", 20.0)
    monkeypatch.setattr(acting, "PICTURED_S", 20.0)
    monkeypatch.setattr(recording, "THUMBNAIL_S", 20.0)
    await room.call("browser.navigate", url=room.url)
    button = await ref_of(room, "Paint")
    plain = await room.outcome("browser.click", ref=button)
    (told,) = events_of(room, plain.run_id, "browserAction")
    assert told == {"did": f"click {button}", "element": 'button "Paint"', "page": "p1", "url": room.url}
    await room.call("browser.record_start")
    recorded = await room.outcome("browser.click", ref=button)
    (told,) = events_of(room, recorded.run_id, "browserAction")
    picture = await content(room, told["thumbnail"])
    assert jpeg_size(picture) == (320, 180) and len(picture) <= 20_000
    steps = await room.outcome("browser.execute", steps=[{"call": "page.click", "args": ["text=Paint"]}])
    assert [one.name for one in room.use(ArtifactStore).of_run(child_of(room, steps.run_id))] == ["action.jpg"]


def child_of(room: Room, run_id: str) -> str:
    (row,) = room.use(RunStore).children(run_id, limit=10)
    return str(row["id"])


async def test_a_browser_launched_with_record_is_kept_by_the_run_that_stops_it(opened: Room) -> None:
    await opened.launched(options={"record": True})
    await opened.call("browser.navigate", url=opened.url)
    outcome = await opened.outcome("browser.stop")
    names = {one.name for one in opened.use(ArtifactStore).of_run(outcome.run_id)}
    assert names == {"trace.zip", "film.avi"}
    await opened.call("browser.delete")


async def test_l20_a_trace_holds_no_cookie_no_authorization_and_nothing_posted(room: Room) -> None:
    await room.call("browser.navigate", url=room.url)
    await room.call("browser.record_start")
    await room.call("browser.navigate", url=room.url)
    await room.call("browser.execute", steps=[{"call": "page.click", "args": ["text=Send"]}])
    assert any(COOKIE in line for line in room.site.seen), "the browser did send it"
    stopped = await room.call("browser.record_stop")
    trace = zipfile.ZipFile(BytesIO(await content(room, stopped.files[0].artifact)))
    for name in trace.namelist():
        assert COOKIE.encode() not in trace.read(name), name
    assert POSTED.encode() not in trace.read("trace.network")
    assert not [name for name in trace.namelist() if name.endswith(".dat")]


async def test_l07_where_a_secret_was_filled_in_no_recording_begins(room: Room) -> None:
    live = room.live(room.runtime)
    live.used({"canary-secret-value": "prod/crm"})
    with pytest.raises(WrongState) as refused:
        await room.call("browser.record_start")
    assert "secret" in refused.value.message and refused.value.hint
    assert not live.recording.active


async def test_l07_a_recording_is_thrown_away_before_a_secret_is_filled_in(room: Room, tmp_path: Path) -> None:
    live, folder = room.live(room.runtime), room.use(ArtifactStore).spool().parent
    before = set(folder.iterdir())
    await room.call("browser.record_start")
    await room.call("browser.navigate", url=room.url)
    assert await live.recording.discard_before_secret()
    assert set(folder.iterdir()) == before
    # What login does from here on.
    live.used({"canary-secret-value": "prod/crm"})
    (page,) = live.pages.values()
    await page.page.locator("input").fill("canary-secret-value")
    with pytest.raises(WrongState) as nothing:
        await room.call("browser.record_stop")
    assert "thrown away" in nothing.value.message
    with pytest.raises(Exception, match="start tracing"):
        await live.live.context.tracing.stop(path=tmp_path / "trace.zip")
    click = await room.outcome("browser.hover", ref=await ref_of(room, "Paint"))
    assert "thumbnail" not in events_of(room, click.run_id, "browserAction")[0]
    assert not await live.recording.discard_before_secret()


async def test_files_that_a_recording_is_made_in_stay_with_nobody(room: Room) -> None:
    folder = room.use(ArtifactStore).spool().parent
    before = set(folder.iterdir())
    await room.call("browser.record_start")
    await room.call("browser.navigate", url=room.url)
    assert set(folder.iterdir()) - before
    assert len((await room.call("browser.record_stop")).files) == 2
    assert set(folder.iterdir()) == before


async def test_l07_where_a_recording_was_given_up_while_it_began_or_ended_no_secret_comes(room: Room) -> None:
    """Playwright may go on with the trace, and nobody would throw it away."""
    recording = room.live(room.runtime).recording

    async def given_up(verb: str, *, underway: Callable[[], bool]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.call, f"browser.{verb}")
            with anyio.fail_after(PATIENCE_S):
                while not underway():
                    await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    folder = room.use(ArtifactStore).spool().parent
    before = set(folder.iterdir())
    await given_up("record_start", underway=lambda: recording._traces)
    assert not recording.active and set(folder.iterdir()) == before
    with pytest.raises(WrongState) as refused:
        await recording.discard_before_secret()
    assert "unseen" in refused.value.message and refused.value.hint
    with pytest.raises(WrongState, match="unseen"):
        await room.call("browser.record_start")
    await room.call("browser.delete")
    room.runtime = await room.launched(options={"record": True})
    recording = room.live(room.runtime).recording
    await given_up("record_stop", underway=lambda: not recording._filming)
    assert not recording.active
    with pytest.raises(WrongState, match="unseen"):
        await recording.discard_before_secret()


# The film's file format


def frames_of(avi: bytes) -> list[bytes]:
    """The frames by the index, as a player finds them; checks sizes and offsets on the way."""
    assert avi[:4] == b"RIFF" and avi[8:12] == b"AVI " and struct.unpack("<I", avi[4:8])[0] == len(avi) - 8
    movie = avi.index(b"movi") - 8
    assert avi[movie : movie + 4] == b"LIST"
    size = struct.unpack("<I", avi[movie + 4 : movie + 8])[0]
    index = movie + 8 + size
    assert avi[index : index + 4] == b"idx1"
    length = struct.unpack("<I", avi[index + 4 : index + 8])[0]
    frames = []
    for at in range(index + 8, index + 8 + length, 16):
        name, _, offset, count = struct.unpack("<4sIII", avi[at : at + 16])
        chunk = movie + 8 + offset
        assert name == avi[chunk : chunk + 4] == b"00dc"
        assert struct.unpack("<I", avi[chunk + 4 : chunk + 8])[0] == count
        frames.append(avi[chunk + 8 : chunk + 8 + count])
    assert struct.unpack("<I", avi[48:52])[0] == len(frames), "the header says how many there are"
    return frames


def jpeg(width: int, height: int, *, filler: bytes = b"x") -> bytes:
    head = struct.pack(">BHHB", 8, height, width, 3)
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", 2 + len(head) + 9) + head + bytes(9) + filler + b"\xff\xd9"


def test_a_film_has_a_frame_for_each_moment_and_repeats_cost_nothing(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.avi", bytes_max=1 << 20, frames_max=1_000)
    film.add(jpeg(64, 48), at=100.0)
    film.add(b"no picture", at=100.1)
    film.add(jpeg(32, 32), at=100.2)
    film.add(jpeg(64, 48, filler=b"yy"), at=102.0)
    assert film.finish()
    frames = frames_of((tmp_path / "film.avi").read_bytes())
    assert len(frames) == 2 * RATE + 1
    assert [at for at, one in enumerate(frames) if one] == [0, 2 * RATE]


def test_a_film_stops_at_its_limits_and_one_without_pictures_leaves_no_file(tmp_path: Path) -> None:
    long = Film(tmp_path / "long.avi", bytes_max=1 << 20, frames_max=10)
    long.add(jpeg(64, 48), at=0.0)
    long.add(jpeg(64, 48), at=1e9)
    assert long.full and long.finish()
    assert len(frames_of((tmp_path / "long.avi").read_bytes())) == 10
    empty = Film(tmp_path / "empty.avi", bytes_max=1 << 20, frames_max=10)
    assert not empty.finish() and not (tmp_path / "empty.avi").exists()


def test_a_film_ends_where_the_disk_is_full(tmp_path: Path) -> None:
    film = Film(tmp_path / "film.avi", bytes_max=1 << 20, frames_max=1_000)
    film.add(jpeg(64, 48), at=0.0)
    with files_of_at_most(4096):
        film.add(jpeg(64, 48, filler=b"y" * 8192), at=0.2)
        film.add(jpeg(64, 48), at=0.4)
        with pytest.raises(WrongState):
            Film(tmp_path / "nowhere" / "film.avi", bytes_max=1 << 20, frames_max=1_000)
    assert film.full and film.finish()
    assert frames_of((tmp_path / "film.avi").read_bytes()) == [jpeg(64, 48)]


async def test_a_full_disk_costs_a_recorded_browser_neither_its_actions_nor_its_end(tmp_path: Path) -> None:
    """The database has room, as its log has for a while on one disk with the rest."""
    with small_disk(tmp_path / "blobs") as disk:
        async with open_room(tmp_path, pages=PAGES) as room:
            await room.launched()
            await room.call("browser.navigate", url=room.url)
            await room.call("browser.record_start")
            ballast = fill(disk)
            await room.call("browser.click", ref=await ref_of(room, "Paint"))
            with pytest.raises(DiskFull):
                await room.call("browser.record_stop")
            await room.call("browser.record_start")
            await room.call("browser.click", ref=await ref_of(room, "Paint"))
            assert (await room.call("browser.stop")).state == "stopped"
            assert list((disk / ".incoming").iterdir()) == []
            ballast.unlink()


async def test_l20_a_browser_with_a_profile_is_not_recorded(room: Room) -> None:
    """What servers answered, and headers of an application's own, would be enough to copy a session."""
    with pytest.raises(WrongState, match="profile"):
        await room.call("browser.launch", profile="work", options={"record": True})
    kept = await room.launched(alias="kept", profile="work")
    with pytest.raises(WrongState, match="profile"):
        await room.call("browser.record_start", runtime=kept)
    await room.call("browser.stop", runtime=kept)
    with pytest.raises(WrongState, match="profile"):
        await room.call("browser.launch", alias="kept", options={"record": True})
    assert [one.alias for one in (await room.call("browser.list")).browsers if one.state == "active"] == ["browser"]
    await room.call("browser.delete", runtime=kept)
