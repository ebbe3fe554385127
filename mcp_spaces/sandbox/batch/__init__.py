"""Operation batch, protocol 1.0: several operations in one call."""
