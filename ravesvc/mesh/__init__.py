"""A child: one mesh, one WebSocket, one bot, in one process."""
