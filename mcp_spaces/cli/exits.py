"""How a command ends. Scripts may rely on these."""

from __future__ import annotations

REFUSED = 1
"""The daemon said no, or something went wrong; stderr says what and what to do."""
USAGE = 2
"""The command line cannot be understood."""
NO_DAEMON = 3
"""There is no daemon to talk to, and none could be started."""
CANCELLED = 130
"""Ctrl-C, by the shells' convention."""
UNREAD = 141
"""Nobody reads what is written (`… | head`): what shells give for a program that SIGPIPE ended, 128 + 13."""
