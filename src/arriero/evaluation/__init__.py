"""Evaluation: how good a model is on held-out data, with an interval on every figure."""
