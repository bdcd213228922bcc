"""Cost: predicted before a stage runs, metered while it runs, reconciled after."""

from arriero.cost.estimate import Estimate, total_estimate
from arriero.cost.quantity import Quantity

__all__ = ["Estimate", "Quantity", "total_estimate"]
