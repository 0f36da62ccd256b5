"""Rave over HTTP: `client.Api` and what it is made of. Knows nothing of D-Bus, systemd or the store."""
