"""The options: those of rave.yaml, of database.json, and what of them a bot is handed."""
