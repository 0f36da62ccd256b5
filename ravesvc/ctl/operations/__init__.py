"""Commands of ravectl(1) that take several steps, and their parts."""
