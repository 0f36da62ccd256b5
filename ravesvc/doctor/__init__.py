"""Checks for `ravectl doctor`: whether this machine has all that the bots and their sandbox need.

`machine` gathers facts, `checks` evaluates them without I/O, and `sandbox` attacks the sandbox.
"""
