"""Arriero drives a language model through its whole life, and knows beforehand what the journey costs."""

__version__ = "0.1.0"
