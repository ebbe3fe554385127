"""All operations of the sandbox room, in the order in which they are listed."""

from __future__ import annotations

from mcp_spaces.core.operation import AnyOperation
from mcp_spaces.sandbox.batch.batch import RUN_OPERATIONS
from mcp_spaces.sandbox.connect import CONNECT
from mcp_spaces.sandbox.file_search import GLOB, LIST_FILES, SEARCH
from mcp_spaces.sandbox.files import DELETE_FILE, EDIT_FILE, READ_FILE, WRITE_FILE
from mcp_spaces.sandbox.job_operations import JOB_READ, JOB_STOP, JOB_WAIT, JOB_WRITE
from mcp_spaces.sandbox.launching import LAUNCH
from mcp_spaces.sandbox.runtime_operations import DELETE, GET, LIST, STOP
from mcp_spaces.sandbox.shell import SHELL

OPERATIONS: tuple[AnyOperation, ...] = (
    LAUNCH,
    LIST,
    GET,
    STOP,
    DELETE,
    SHELL,
    READ_FILE,
    WRITE_FILE,
    EDIT_FILE,
    DELETE_FILE,
    LIST_FILES,
    GLOB,
    SEARCH,
    RUN_OPERATIONS,
    JOB_READ,
    JOB_WRITE,
    JOB_WAIT,
    JOB_STOP,
    CONNECT,
)
