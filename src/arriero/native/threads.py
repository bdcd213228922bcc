"""The threads that torch's own operations run on, lent to native kernels that run between them."""

from __future__ import annotations

import ctypes
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def borrow_threads(native: ctypes.CDLL) -> bool:
    """Tell the library where torch's OpenMP is; False where it is not found, and a team of its own does the work.

    torch's threads spin for milliseconds after each operation, so that a second team would have to share the cores.
    """
    parallel = _openmp_parallel()
    native.ar_training_borrow.argtypes, native.ar_training_borrow.restype = [ctypes.c_void_p], None
    native.ar_training_borrow(parallel)
    return parallel is not None


def _openmp_parallel() -> int | None:
    """Address of ``GOMP_parallel`` in the OpenMP that this process has loaded (GNU's, or Intel's and LLVM's, which
    have it too); None where there is none or more than one, as then it is unknown which is torch's."""
    try:
        lines = _MAPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6}
    found = sorted(path for path in paths if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")))
    if len(found) != 1:
        return None
    try:
        return ctypes.cast(ctypes.CDLL(found[0]).GOMP_parallel, ctypes.c_void_p).value
    except (OSError, AttributeError):
        return None
