"""The SQLite database: one writer, many readers, numbered migrations, a chain over what was done."""
