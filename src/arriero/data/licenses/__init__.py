"""Which licence a file or a text is under, and how that is known."""
