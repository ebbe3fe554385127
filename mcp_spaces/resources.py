"""Shipped files: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path


def resource(path: str) -> Path:
    """A shipped file or folder, by its path below `resources/`.

    Raises:
        FileNotFoundError: nothing of that name is shipped.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "resources", package.parent / "resources"):
        if (folder / path).exists():
            return folder / path
    raise FileNotFoundError(f"resources/{path} is not shipped")
