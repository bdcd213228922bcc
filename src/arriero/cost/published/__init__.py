"""Runs that others have published: their hours, predicted, and their energy by the recipe they used."""

from __future__ import annotations

from arriero.cost.published.emissions import METHODS, co2_tonnes, energy_mwh
from arriero.cost.published.hours import flat_hours, predict_hours
from arriero.cost.published.runs import PublishedRun, known_runs

__all__ = ["METHODS", "PublishedRun", "co2_tonnes", "energy_mwh", "flat_hours", "known_runs", "predict_hours"]
