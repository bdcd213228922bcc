"""Books as plain text files."""
