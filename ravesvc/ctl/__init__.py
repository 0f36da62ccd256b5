"""ravectl: the service's command for operators, a client of its bus interface and of nothing else.

Each group of commands is a module with a function that adds its parsers; `main` has the table of them.
"""
