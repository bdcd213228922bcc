"""Scaling laws: how large a model, on how many tokens, and what loss that will come to."""

from arriero.cost.scaling.bootstrap import Bands, Prediction, bootstrap, predict
from arriero.cost.scaling.fit import Fit, fit_law
from arriero.cost.scaling.inference_aware import Overtraining, overtrain
from arriero.cost.scaling.law import CHINCHILLA, CHINCHILLA_PRINTED, LAWS, Allocation, ParametricLaw
from arriero.cost.scaling.runs import Runs, read_runs

__all__ = [
    "CHINCHILLA", "CHINCHILLA_PRINTED", "LAWS", "Allocation", "Bands", "Fit", "Overtraining", "ParametricLaw", "Prediction",
    "Runs", "bootstrap", "fit_law", "overtrain", "predict", "read_runs",
]  # fmt: skip
