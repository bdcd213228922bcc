"""Answers that obey a grammar: JSON, JSON Schema, regular expressions, context-free grammars, tool calls."""
