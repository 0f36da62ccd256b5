"""`ravesvc-dev`: one room in the terminal for the author of a plugin, with the real bot and a simulated Rave."""
