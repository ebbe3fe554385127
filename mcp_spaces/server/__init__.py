"""The MCP surface: what agents, the operator's commands and HTTP clients connect to."""
