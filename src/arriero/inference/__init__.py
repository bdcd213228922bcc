"""The engine: one generator for chat, serving, evaluation and rollouts."""
