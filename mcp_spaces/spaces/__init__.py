"""Spaces: the durable boundaries that own runtimes, mounts, policy, quotas and run records."""
