"""What the parent remembers: credentials and blocklist."""
