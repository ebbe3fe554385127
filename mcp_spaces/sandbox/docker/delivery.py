"""How the agent gets into a container: over stdin, run by a Python that reads just so many bytes."""

from __future__ import annotations

import functools
import importlib.util
import marshal
from importlib import resources

from mcp_spaces.sandbox.port import WORKSPACE

PACKAGE = "mcp_spaces.sandbox.agent"
MODULES = (
    "wire", "paths", "files", "globs", "trees", "processes", "programs", "supervisor", "loop", "calls", "running",
    "relays", "proxy_ports", "dialing", "door", "probe", "main",
)  # fmt: skip
"""In the order of their imports."""

BOOTSTRAP = """
import os, sys
from _frozen_importlib_external import MAGIC_NUMBER
def take(n):
    b = b''
    while len(b) < n:
        c = os.read(0, n - len(b))
        if not c:
            os._exit(0)
        b += c
    return b
def part():
    return take(int.from_bytes(take(4), 'big'))
magic, compiled, source, root = part(), part(), part(), part().decode()
if magic == MAGIC_NUMBER:
    import marshal
    modules = marshal.loads(compiled)
else:
    modules = [(name, compile(text, name, 'exec', dont_inherit=True)) for name, text in eval(source)]
for name, code in modules:
    module = type(sys)(name)
    package, _, last = name.rpartition('.')
    sys.modules.setdefault(package, type(sys)(package))
    setattr(sys.modules[package], last, module)
    sys.modules[name] = module
    exec(code, module.__dict__)
module.main(root)
"""
# `from package.module import …` finds a module that is in sys.modules without looking for its package.

COMMAND = ("python3", "-I", "-S", "-u", "-c", BOOTSTRAP)


@functools.cache
def bundle(root: str = WORKSPACE) -> bytes:
    """What to send right after the attach: four parts, each with its length (u32, big endian) before it.

    The agent comes twice: compiled, for a Python whose byte code is that of this one, and as source for any other.
    Compiling takes 13 ms, which is a fifth of a cold launch; sending it twice takes 0.2.
    """
    folder = resources.files(PACKAGE)
    sources = [(f"{PACKAGE}.{name}", (folder / f"{name}.py").read_text("utf-8")) for name in MODULES]
    compiled = [(name, compile(source, name, "exec", dont_inherit=True)) for name, source in sources]
    parts = (importlib.util.MAGIC_NUMBER, marshal.dumps(compiled), repr(sources).encode(), root.encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
