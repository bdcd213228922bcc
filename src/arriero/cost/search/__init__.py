"""The search over training plans: enumerate, prune, price, choose. Arithmetic on columns; nothing here runs a model."""
