"""Planning without a recipe: what a model, some tokens and a machine would cost, and which plan is best."""
