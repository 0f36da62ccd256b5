"""A worker: one mesh, one WebSocket, one bot, as a rule in a process of its own."""
