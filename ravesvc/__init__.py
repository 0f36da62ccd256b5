"""Chat bots for Rave, one systemd unit per mesh."""

__version__ = "0.1.0"
