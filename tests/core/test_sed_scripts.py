"""What sed itself would refuse in its sandbox, because it runs programs, is seen."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_spaces.core.policy.shell.sed import executes

_PIECES = (
    "e|e ls|s/a/b/|s,a,b,|s/x/y/2e|s/x/\\/y/e|/e|/e/|\\,x,|1|$|2,3|+2|~4|0~2|0,/x/|!|{|}|}e|;|\n| |p|d|y/ab/cd/|a e|a\\\ne"
    "|i\\|c x|c\\|:e|be|b e|te|T|I|M|g|/|\\|[/]|#e|q|q5|l 3|=|n|N|s|x|ls|z|F|v|v4.2|L|k"
).split("|")


def refused_by_sed(script: str) -> bool:
    done = subprocess.run(["sed", "--sandbox", script, "/dev/null"], capture_output=True, timeout=10, check=False)
    return b"sandbox mode" in done.stderr


@pytest.mark.skipif(
    shutil.which("sed") is None or not refused_by_sed("e"), reason="compares with GNU sed, which has a sandbox"
)
@given(st.lists(st.sampled_from(_PIECES), min_size=1, max_size=7).map("".join))
@settings(max_examples=300, deadline=None)
def test_what_sed_would_run_is_found(script: str) -> None:
    assert executes(script) or not refused_by_sed(script)


@pytest.mark.parametrize(("length", "found"), [(4_096, False), (4_097, True)])
def test_a_script_that_is_too_long_to_read_counts_as_one_that_executes(length: int, found: bool) -> None:
    assert executes("p;" * (length // 2) + " " * (length % 2)) is found
