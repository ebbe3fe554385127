"""Figures of mcp-spaces, each beside a raw baseline taken in the same run: `python -m benchmarks`."""
