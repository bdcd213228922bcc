"""Tokens guessed ahead and checked many at a time: prompt lookup, a draft model, and whether it pays."""
