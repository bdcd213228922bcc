"""Optimizers: which parameter is updated how (roles), by which rule, and clipping before it."""
