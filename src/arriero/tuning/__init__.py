"""Tuning: from a base model to one that answers (supervised fine-tuning, adapters)."""
