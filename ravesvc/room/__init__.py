"""Rave over WebSocket: the protoo framing, one connection to a mesh, and what happens in the room."""
