"""The service manager and the journal: units, notifications, log entries."""
