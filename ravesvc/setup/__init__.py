"""What is done before the service starts, and what `ravectl config check` looks at: files, places, addresses."""
