"""The commands of ravectl(1), a module for each noun."""
