"""`arriero plan --goal`: the best plan for a goal, and why not the others."""
