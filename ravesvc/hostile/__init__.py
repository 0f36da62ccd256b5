"""A simulated attacker in a bot: it tries what a bot may not do, to find what the sandbox of this machine allows."""
