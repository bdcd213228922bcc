"""Folders and archives of files: their members in order, nothing outside of them, in bounded memory."""
