"""The output of ravectl(1) on a terminal."""
