"""Parts that any program could use: time, text, files, tasks. Imports nothing of ours but `errors`."""
