"""What the MCP registry is told agrees with what is shipped."""

from __future__ import annotations

import json
import tomllib

import mcp_spaces
from tests.server.doors import ROOT


def test_the_registrys_entry_names_this_package_and_version() -> None:
    entry = json.loads((ROOT / "server.json").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (package,) = entry["packages"]
    assert entry["version"] == package["version"] == mcp_spaces.__version__
    assert package["identifier"] == project["name"]
    assert [argument["value"] for argument in package["packageArguments"]] == ["stdio"]
    assert entry["name"].count("/") == 1
    assert len(entry["description"]) <= 100  # the registry refuses more
    assert entry["$schema"].endswith("/2025-12-11/server.schema.json")
