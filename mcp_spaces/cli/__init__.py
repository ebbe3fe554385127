"""The operator's commands: most of them derived from the catalogue, a few written by hand."""
