"""Where the store is kept: SQLite or MongoDB."""
