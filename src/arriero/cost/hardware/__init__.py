"""What devices can do, each figure with where it is from."""

from __future__ import annotations

from arriero.cost.hardware.table import Hardware, Provenance, find, known, load, own_path

__all__ = ["Hardware", "Provenance", "find", "known", "load", "own_path"]
