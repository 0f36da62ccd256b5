"""ravectl: the service's command for operators, a client of its bus interface and of nothing else.

The commands are declared in `commands`, see `command`; `command_line` has the table of them.
"""
