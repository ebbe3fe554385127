"""mcp-spaces: a place to work for coding agents, served over MCP."""

__version__ = "0.1.0"
