"""The bodies that the service reads: what is used, what is harmless to ignore, and what is refused by name."""
