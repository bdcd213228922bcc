"""Which device a model goes to."""

from __future__ import annotations

import re

import torch

from arriero.errors import ArrieroError

_NAME = re.compile(r"auto|cpu|cuda(:\d+)?")


def resolve_device(name: str) -> str:
    """``cpu``, ``cuda`` or ``cuda:N``; for ``auto`` the first GPU where there is one.

    Raises:
        ArrieroError: no such device here, or it is none of these names.
    """
    if not _NAME.fullmatch(name):
        raise ArrieroError(f"device '{name}' should be auto, cpu, cuda or cuda:N")
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda:0" if there else "cpu"
    if name == "cpu":
        return name
    if not there:
        raise ArrieroError(
            f"device {name}: torch {torch.__version__} sees no CUDA device here; --device cpu is there"
        )
    number, count = int(name.partition(":")[2] or 0), torch.cuda.device_count()
    if number >= count:
        raise ArrieroError(f"device {name}: there are {count} CUDA devices here, numbered from 0")
    return f"cuda:{number}"
