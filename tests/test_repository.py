"""The repository's own promises: links lead somewhere, layers hold, versions agree, the wheel is whole."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from importlib.metadata import version as installed_version
from pathlib import Path

import grimp
import pytest

import mcp_spaces

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CONTRACTS = {contract["id"]: contract for contract in CONFIGURATION["tool"]["importlinter"]["contracts"]}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: lower case, punctuation dropped, blanks to hyphens."""
    headings = re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def leads_somewhere(link: str, *, page: Path) -> bool:
    target, _, anchor = link.partition("#")
    if re.match(r"[a-z]+:", target):
        return True
    file = page.parent / target if target else page
    return file.exists() and (not anchor or anchor in anchors(file))


def broken_links(page: Path) -> list[str]:
    return [link for link in LINK.findall(prose(page)) if not leads_somewhere(link, page=page)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](absent.md) [b](#one) [c](#two) [d](page.md#one) [e](https://example.com/x)\n", "utf-8")
    assert broken_links(page) == ["absent.md", "#two"]


def test_rooms_import_only_what_they_may() -> None:
    lint = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_every_package_that_is_imported_is_declared() -> None:
    """What comes along with another package today may stay away with its next version."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "mcp_spaces").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    roots = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"mcp_spaces"}
    declared = {re.split(r"[<>=]", line)[0] for line in CONFIGURATION["project"]["dependencies"]}
    owners = packages_distributions()
    brought = {root: [name.replace("_", "-") for name in owners[root]] for root in roots}
    assert {root for root, packages in brought.items() if declared.isdisjoint(packages)} == set()


def test_every_room_that_is_there_is_under_its_contracts() -> None:
    """Layers are exhaustive by themselves; the other contracts list rooms, and must not forget one."""
    layer = next(layer for layer in CONTRACTS["layers"]["layers"] if "browser" in layer)
    nouns = {noun.strip(" ()") for noun in layer.split(":")}
    present = {f"mcp_spaces.{noun}" for noun in nouns if (ROOT / "mcp_spaces" / noun / "__init__.py").exists()}
    assert set(CONTRACTS["nouns"]["modules"]) == present
    assert present <= set(CONTRACTS["mcp"]["source_modules"])


def test_the_shim_loads_nothing_but_the_standard_library() -> None:
    """What the contract says of imports in the source, seen from outside: nothing comes in by a detour either."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import mcp_spaces.server.shim, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    roots = {name.partition(".")[0] for name in loaded if not name.startswith("__")}
    # What an editable install's path hook or a distribution's own start-up may bring along is not the shim's doing.
    theirs = ("mcp_spaces", "_", "sitecustomize")
    foreign = {name for name in roots - sys.stdlib_module_names if not name.startswith(theirs)}
    assert foreign == set()
    assert {name for name in loaded if name.startswith("mcp_spaces")} == {
        "mcp_spaces",
        "mcp_spaces.places",
        "mcp_spaces.server",
        "mcp_spaces.server.shim",
    }


def test_versions_agree() -> None:
    newest = re.search(r"^## \[(?:Unreleased\] – )?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    assert newest[1] == mcp_spaces.__version__ == installed_version("mcp-spaces")


def test_the_wheel_holds_every_module_and_resource(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, "."],
        cwd=ROOT,
        check=True,
    )
    (wheel,) = tmp_path.glob(f"mcp_spaces-{mcp_spaces.__version__}-*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        *(path.relative_to(ROOT) for path in (ROOT / "mcp_spaces").rglob("*") if path.is_file()),
        *(Path("mcp_spaces") / path.relative_to(ROOT) for path in (ROOT / "resources").rglob("*") if path.is_file()),
    }
    assert {str(path) for path in expected if "__pycache__" not in path.parts} <= shipped


THREATS = {"S": 20, "V": 22, "L": 25, "B": 22, "N": 22, "T": 23, "D": 15, "K": 18, "E": 12}
"""How many cases each family has; they are numbered from one."""


def test_each_threat_has_one_line_and_each_named_test_exists() -> None:
    page = (ROOT / "docs/threat-model.md").read_text("utf-8")
    table = page.partition("<!-- cases:begin -->")[2].partition("<!-- cases:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "|" in line][2:]
    cases = [case for case, _, _ in rows]
    assert sorted(cases) == sorted(f"{family}{n:02}" for family, last in THREATS.items() for n in range(1, last + 1))
    assert [case for case, _, answer in rows if not answer] == []
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    named = {name for _, _, answer in rows for name in re.findall(r"`(test_\w+)`", answer)}
    assert {name for name in named if f"def {name}(" not in sources} == set()


def test_no_file_needs_itself_in_the_end() -> None:
    """Not even for its types: what cannot be read alone belongs together, or its order is wrong."""
    graph = grimp.build_graph("mcp_spaces")
    needs = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    graphlib.TopologicalSorter(needs).prepare()
