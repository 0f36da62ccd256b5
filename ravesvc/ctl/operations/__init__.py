"""What a command of ravectl(1) does in several steps."""
