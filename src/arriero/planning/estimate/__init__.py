"""`arriero estimate`: what a training run would take, without a recipe."""
