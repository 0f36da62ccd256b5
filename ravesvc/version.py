"""The version of this program, for all who need only that: it imports nothing."""

__version__ = "0.1.0"
