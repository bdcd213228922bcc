"""``python -m arriero.native build`` compiles the native library again; without ``build`` it says what is in use."""

from __future__ import annotations

import sys

from arriero.native import library
from arriero.native.build import BuildError, build


def main(arguments: list[str]) -> int:
    """The command; gives its exit code."""
    if arguments not in ([], ["build"]):
        sys.stderr.write("usage: python -m arriero.native [build]\n")
        return 2
    if arguments:
        try:
            sys.stdout.write(f"built {build()}\n")
        except BuildError as error:
            sys.stderr.write(f"not built: {error}\n")
            return 1
    sys.stdout.write(f"{library.describe()}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
