"""Commands judged as shell syntax: every command that a script would run counts, and what cannot be parsed is a no."""
