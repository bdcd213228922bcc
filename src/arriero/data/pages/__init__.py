"""The text of an HTML page, in a process of its own that starts fast: it imports nothing else of the package."""
