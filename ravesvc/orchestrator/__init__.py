"""The service on the bus: systemd units run the bots, and D-Bus objects show and control them."""
