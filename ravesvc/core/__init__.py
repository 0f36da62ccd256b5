"""What the service decides: which meshes have a bot, and what follows from how one ends."""
