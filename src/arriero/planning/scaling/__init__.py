"""`arriero scaling`: how large a model, on how many tokens, and what comes of it."""
