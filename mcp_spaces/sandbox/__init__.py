"""Sandboxes: runtimes that execute code and hold a workspace of files."""
