"""Recipes: the schema, the two walks (plan and run), resume, and the report."""
