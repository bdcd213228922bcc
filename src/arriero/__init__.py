"""Arriero drives a language model through its whole life, and knows beforehand what the journey costs.

Example::

    import arriero
    arriero.run_recipe("recipes/quickstart.yaml")  # plan, run, report
    arriero.run_stage("quantize", {"scheme": "int8"}, {"model": "runs/quickstart/dpo"}, out="runs/small")
    artifact = arriero.open_artifact("runs/quickstart/dpo")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arriero.process import let_waiting_threads_sleep
from arriero.version import __version__

let_waiting_threads_sleep()  # before anything loads torch

if TYPE_CHECKING:
    from arriero.recipe.walks import make_plan, make_report, run_recipe, run_stage

__all__ = ["__version__", "make_plan", "make_report", "open_artifact", "run_recipe", "run_stage"]


def open_artifact(path: Any, *, hashes: bool = False) -> Any:
    """The artifact in a folder, checked against its manifest (see :class:`arriero.artifacts.Artifact`)."""
    from pathlib import Path

    from arriero.artifacts import Artifact

    return Artifact.open(Path(path), hashes=hashes)


def __getattr__(name: str) -> Any:
    """The walks are imported when first used, so that `import arriero` stays quick."""
    if name in __all__:
        from arriero.recipe import walks

        return getattr(walks, name)
    raise AttributeError(f"module 'arriero' has no attribute '{name}'")
