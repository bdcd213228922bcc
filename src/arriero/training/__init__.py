"""Training: the one loop, and what plugs into it (objectives, schedules, optimizers, checkpoints, plans)."""
