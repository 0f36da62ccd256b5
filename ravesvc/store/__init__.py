"""What the parent remembers: the store with its engines, the credentials file and the blocklist."""
