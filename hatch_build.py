"""The package's build: compile the native library where there is a C compiler, and go without it where there is none.

It runs for wheels and for editable installations. ``ARRIERO_NATIVE=0`` leaves the library out.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import sys_tags

NATIVE = Path("src") / "arriero" / "native"


class NativeBuildHook(BuildHookInterface):
    """Puts ``_native.so`` beside its sources and into the wheel, which is then for this platform alone."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the library; a failure is a warning, never an error."""
        if os.environ.get("ARRIERO_NATIVE") == "0":
            return
        builder = _builder(Path(self.root))
        try:
            built = builder.build()
        except (builder.BuildError, OSError) as error:
            self.app.display_warning(f"no native library, products will be slower: {error}")
            return
        build_data["artifacts"].append(f"/{built.relative_to(Path(self.root).resolve()).as_posix()}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform()}"  # it has a plain C interface: any Python 3 can load it


def _builder(root: Path) -> ModuleType:
    """``arriero/native/build.py``, by its path: the package cannot be imported yet."""
    path = root.resolve() / NATIVE / "build.py"
    spec = importlib.util.spec_from_file_location("arriero_native_build", path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    """This machine's platform; not a manylinux one, which would promise more than was looked at."""
    return next(
        tag.platform
        for tag in sys_tags()
        if "manylinux" not in tag.platform and "musllinux" not in tag.platform
    )
