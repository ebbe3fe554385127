"""The daemon's end of the one stream to the agent inside of a sandbox."""
