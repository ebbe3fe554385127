"""Storage: namespaces of files, kept by their content's hash."""
