"""An address range of their own for torch's CPU tensors (``csrc/tensor_memory.cpp``), where torch and a C++ compiler are.

It speaks torch's C++ interface, which is another for every version, so it is compiled for the torch that is installed: once,
in seconds, when it is first wanted.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from arriero.native import library
from arriero.native.build import SOURCES, BuildError, run

SWITCH = "ARRIERO_TENSOR_MEMORY"
"""Environment variable: 0 leaves tensors with the C library; so does ARRIERO_NATIVE."""
SOURCE = SOURCES / "tensor_memory.cpp"
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden")
_installed: list[TensorMemory] = []


class TensorMemory:
    """The range that tensors of this process live in.

    Args:
        library: compiled from ``csrc/tensor_memory.cpp``, and installed.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name in ("live", "extent"):
            getattr(library, f"ar_tensor_memory_{name}").restype = ctypes.c_size_t

    @property
    def live(self) -> int:
        """Bytes of the tensors that live in the range, those of 16 KiB and more."""
        return int(self._library.ar_tensor_memory_live())

    @property
    def extent(self) -> int:
        """Bytes up to the end of the last block: as much of the range as was ever touched, or less."""
        return int(self._library.ar_tensor_memory_extent())

    def trim(self) -> None:
        """Hand the pages in which nothing lives back to the system."""
        self._library.ar_tensor_memory_trim()


def install(folder: Path) -> TensorMemory | None:
    """Let tensors that are made from now on live in a range of their own; None where that cannot be, or torch is not loaded.

    Args:
        folder: where the compiled library is kept for the next process.
    """
    torch = sys.modules.get("torch")
    switches = (SWITCH, library.SWITCH)
    if torch is None or "0" in map(os.environ.get, switches) or not sys.platform.startswith("linux"):
        return None
    return installed() or _install(torch, folder)


def installed() -> TensorMemory | None:
    """The range that tensors live in; None where they are with the C library."""
    return next(iter(_installed), None)


@cache
def _install(torch: ModuleType, folder: Path) -> TensorMemory | None:
    try:
        compiled = ctypes.CDLL(str(_built(torch, folder)))
    except (BuildError, OSError):
        return None
    if not compiled.ar_tensor_memory_install():
        return None
    _installed.append(TensorMemory(compiled))
    return _installed[-1]


def _built(torch: ModuleType, folder: Path) -> Path:
    """The library for this torch, compiled if it is not there; it appears whole or not at all."""
    home = Path(torch.__file__ or "").parent
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    said = (*FLAGS, abi, torch.__version__, str(home), platform.machine())
    name = "tensor_memory-" + _digest("\0".join(said).encode() + SOURCE.read_bytes())
    for found in folder.glob(f"{name}-*.so"):
        if found.stem == f"{name}-{_digest(found.read_bytes())}":  # loading half a library kills the process
            return found
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".{name}.{os.getpid()}"
    headers, libraries = f"-I{home / 'include'}", f"-L{home / 'lib'}"
    try:
        run([*_compiler(), *FLAGS, abi, headers, str(SOURCE), "-o", str(made), libraries, "-lc10"])
        return made.replace(folder / f"{name}-{_digest(made.read_bytes())}.so")
    finally:
        made.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _compiler() -> list[str]:
    wanted = shlex.split(os.environ.get("CXX", "")) or next(([c] for c in COMPILERS if shutil.which(c)), [])
    if not wanted:
        raise BuildError(f"there is no C++ compiler (tried {', '.join(COMPILERS)}; CXX names another)")
    return wanted
