"""MediaWiki's mark-up to plain text."""
