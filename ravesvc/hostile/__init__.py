"""A bot that was taken over: what it would try, to see what the sandbox of this machine lets through."""
