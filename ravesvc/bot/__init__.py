"""The bot in a mesh: commands and events on one side, a room on the other."""
