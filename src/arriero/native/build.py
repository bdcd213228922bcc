"""Compile the native library with whatever C compiler there is. Needs the standard library alone.

The package's build (``hatch_build.py``) loads this file by its path, before the package can be imported.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
LIBRARY = Path(__file__).parent / "_native.so"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = (
    "-std=c11", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi",
)  # fmt: skip
"""Contraction is off because compilers differ in it: the fused operations are written out."""


class BuildError(Exception):
    """There is no library; the message says why, in one line."""


def sources_hash(folder: Path = SOURCES) -> str:
    """What the library is built from, in 16 hexadecimal digits."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted([*folder.glob("*.c"), *folder.glob("*.h")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def compiler() -> list[str]:
    """The command of the C compiler: ``$CC``, or the first of cc, gcc and clang.

    Raises:
        BuildError: there is none.
    """
    wanted = shlex.split(os.environ.get("CC", ""))
    if wanted:
        if shutil.which(wanted[0]) is None:
            raise BuildError(f"CC names {wanted[0]}, which is not there")
        return wanted
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise BuildError(f"there is no C compiler (tried {', '.join(COMPILERS)}; CC names another)")


def build(target: Path = LIBRARY, folder: Path = SOURCES) -> Path:
    """Compile every ``*.c`` of ``folder`` into the shared library ``target``, which appears whole or not at all.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    command = compiler()
    define = f'-DAR_SOURCES="{sources_hash(folder)}"'
    with tempfile.TemporaryDirectory() as scratch:
        sources = sorted(folder.glob("*.c"))
        objects = [Path(scratch) / f"{source.stem}.o" for source in sources]

        def compile_one(pair: tuple[Path, Path]) -> None:
            run([*command, *FLAGS, define, "-c", str(pair[0]), "-o", str(pair[1])])

        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            list(pool.map(compile_one, zip(sources, objects, strict=True)))
        linked = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            run([*command, "-shared", "-pthread", *map(str, objects), "-o", str(linked), "-lm"])
            linked.replace(target)
        finally:
            linked.unlink(missing_ok=True)
    return target


def run(command: list[str]) -> None:
    """A compiler, quietly.

    Raises:
        BuildError: it did not start, or failed.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} did not start: {error.strerror}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise BuildError(f"{command[0]} failed: {lines[0].strip() if lines else f'status {done.returncode}'}")
