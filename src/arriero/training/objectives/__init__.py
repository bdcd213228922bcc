"""Objectives: what a training loop minimises, one file each."""
