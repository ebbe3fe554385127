"""How the agent gets into a container: as source, over stdin, run by a Python that reads just so many bytes."""

from __future__ import annotations

import functools
from importlib import resources

from mcp_spaces.sandbox.port import WORKSPACE

PACKAGE = "mcp_spaces.sandbox.agent"
MODULES = ("wire", "paths", "files", "trees", "processes", "supervisor", "loop", "calls", "relays", "probe", "main")
"""In the order of their imports."""

BOOTSTRAP = """
import os
def take(n):
    b = b''
    while len(b) < n:
        c = os.read(0, n - len(b))
        if not c:
            os._exit(0)
        b += c
    return b
exec(compile(take(int.from_bytes(take(4), 'big')), 'agent', 'exec'))
"""

COMMAND = ("python3", "-I", "-S", "-u", "-c", BOOTSTRAP)

# `from package.module import …` finds a module that is in sys.modules without looking for its package.
_INSTALL = """
import sys
for name, source in {modules!r}:
    module = type(sys)(name)
    package, _, last = name.rpartition('.')
    sys.modules.setdefault(package, type(sys)(package))
    setattr(sys.modules[package], last, module)
    sys.modules[name] = module
    exec(compile(source, name, 'exec', dont_inherit=True), module.__dict__)
sys.modules[{main!r}].main({root!r})
"""


@functools.cache
def bundle(root: str = WORKSPACE) -> bytes:
    """What to send right after the attach: length and source."""
    folder = resources.files(PACKAGE)
    modules = [(f"{PACKAGE}.{name}", (folder / f"{name}.py").read_text("utf-8")) for name in MODULES]
    source = _INSTALL.format(modules=modules, main=f"{PACKAGE}.main", root=root).encode()
    return len(source).to_bytes(4, "big") + source
