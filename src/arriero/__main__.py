"""``python -m arriero``, which is what torchrun starts."""

from arriero.cli import main

if __name__ == "__main__":
    main()
