"""S11: a trace is the one archive that is opened on the host, and pages choose how much there is in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mcp_spaces.browser.record.trace_scrubbing import scrub
from mcp_spaces.errors import DiskFull, QuotaExceeded, WrongState
from tests.folders import fill, small_disk


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Of 100 bytes, unpacked."""
    packed = tmp_path / "trace.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("resources/one", "resources/two"):
            archive.writestr(name, b"x" * 50)
    return packed


@pytest.mark.parametrize(("most", "is_taken"), [(100, True), (99, False)])
def test_s11_a_trace_is_unpacked_up_to_a_size_of_all_its_files_together(
    tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, most: int, is_taken: bool
) -> None:
    monkeypatch.setattr("mcp_spaces.browser.record.trace_scrubbing.TRACE_BYTES_MAX", most)
    clean = tmp_path / "clean.zip"
    if is_taken:
        scrub(trace, clean)
        with zipfile.ZipFile(clean) as archive:
            assert archive.namelist() == ["resources/one", "resources/two"]
        assert clean.stat().st_mode & 0o777 == 0o600
    else:
        with pytest.raises(QuotaExceeded):
            scrub(trace, clean)


def test_a_trace_for_which_there_is_no_room_says_so(tmp_path: Path, trace: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        with pytest.raises(DiskFull):
            scrub(trace, disk / "clean.zip")
    with pytest.raises(WrongState):
        scrub(trace, tmp_path / "nowhere" / "clean.zip")
