"""What any program could use: time, text, files, tasks. Knows nothing of ours but `errors`."""
