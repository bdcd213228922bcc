"""Alignment: making a tuned model prefer what people prefer."""
