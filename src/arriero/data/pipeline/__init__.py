"""Curation's pipeline: splits of raw files to parts, parts to a corpus."""
