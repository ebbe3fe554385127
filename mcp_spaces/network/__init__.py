"""The network gateway: the only way out of any runtime."""
