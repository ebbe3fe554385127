"""What all tests share. Real SQLite, real Docker, real Chromium: only ports have fakes."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from mcp_spaces.sandbox.docker import engine

# What tests share says what it found, as the tests themselves do.
pytest.register_assert_rewrite(*(f"tests.{one.name}" for one in Path(__file__).parent.iterdir() if one.is_dir()))

# The same examples each time: a suite that fails by chance is not believed. `HYPOTHESIS_PROFILE=explore` looks further.
settings.register_profile(
    "steady", derandomize=True, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("explore", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# A shell that starts the tests in the background makes them deaf to Ctrl-C, and so all that they start: what a command
# does when it hears it could never be seen.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENT_PING_S = 10.0


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Of every scope, so that a fixture of a whole module may be asynchronous too."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Of this session: another that runs beside it on this machine is not looked into. `tmp_path` stays where it is."""
    tmp_path_factory.getbasetemp()
    with (
        tempfile.TemporaryDirectory(prefix="mcpt-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        # Chromium as another user goes through it, and cannot list it.
        Path(folder).chmod(0o711)
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_ping() -> Iterator[None]:
    """An engine that starves for a second beside all these containers is no engine that hangs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "PING_TIMEOUT_S", PATIENT_PING_S)
        yield


PING_TIMEOUT_S = engine.PING_TIMEOUT_S


@pytest.fixture
def usual_ping(monkeypatch: pytest.MonkeyPatch) -> float:
    """As long as the product waits for an engine, for the tests of just that."""
    monkeypatch.setattr(engine, "PING_TIMEOUT_S", PING_TIMEOUT_S)
    return PING_TIMEOUT_S
