"""What a pickle of tensors describes, found without running it.

A pickle is a program that may call anything. Here its operations are walked one by one on a stack of plain values,
and the only calls that are understood are those by which torch describes a tensor; every other global, and every
other operation, is refused by name.

Source: ``torch/_utils.py`` (_rebuild_tensor_v2), ``torch/serialization.py``, Python's ``pickletools``.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from typing import Any

import torch

from arriero.models.weight_source import short

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_MOST_VALUES = 1 << 40
_MARK = object()
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, AssertionError, struct.error)
"""What the walk and `pickletools` raise on bytes that are no pickle."""


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str
    size: int


@dataclass(frozen=True)
class ArchivedTensor:
    """A contiguous tensor: its place is ``offset`` values into the storage ``key``."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    key: str
    offset: int


class RefusedError(Exception):
    """The pickle holds something that does not describe tensors."""


def walk(program: bytes) -> Any:
    """The value that a pickle of tensors describes. Understands what torch writes, and nothing else."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_Global(_allowed(argument if argument is not None else _two(stack))))
        elif name in _COMBINE:
            _COMBINE[name](stack)
        else:
            raise RefusedError(f"its pickle has the operation {name}")
    raise ValueError("no end")


_CONSTANTS: dict[str, Any] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_LITERALS = {
    "BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4",
    "BINFLOAT",
}  # fmt: skip


def _allowed(argument: str) -> str:
    name = ".".join(str(argument).split(" "))
    module, _, leaf = name.rpartition(".")
    if name in _CALLS or (module == "torch" and leaf in _STORAGES):
        return name
    raise RefusedError(f"its pickle asks for {short(name)}")


def _two(stack: list[Any]) -> str:
    name, module = stack.pop(), stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError
    return f"{module} {name}"


def _since_mark(stack: list[Any]) -> list[Any]:
    at = max(i for i, item in enumerate(stack) if item is _MARK)
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _tuple_of(count: int) -> Any:
    def combine(stack: list[Any]) -> None:
        if len(stack) < count:
            raise IndexError
        stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]

    return combine


def _set_items(stack: list[Any], items: list[Any]) -> None:
    if not isinstance(stack[-1], dict):
        raise TypeError
    if not all(isinstance(key, str | int) for key in items[::2]):
        raise TypeError  # the hash of nested tuples can take for ever
    stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _set_one(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _set_items(stack, [key, value])


def _set_many(stack: list[Any]) -> None:
    items = _since_mark(stack)
    _set_items(stack, items)


def _append_many(stack: list[Any]) -> None:
    items = _since_mark(stack)
    if not isinstance(stack[-1], list):
        raise TypeError
    stack[-1].extend(items)


def _append_one(stack: list[Any]) -> None:
    item = stack.pop()
    if not isinstance(stack[-1], list):
        raise TypeError
    stack[-1].append(item)


def _call(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    if not isinstance(function, _Global) or function.name not in _CALLS:
        raise RefusedError("its pickle calls something that is no tensor")
    stack.append(_CALLS[function.name](*arguments))


def _persistent(stack: list[Any]) -> None:
    """torch's reference to a storage: ("storage", its class, key, device, number of values)."""
    kind, storage, key, _, size = stack.pop()
    leaf = storage.name.rpartition(".")[2]
    if kind != "storage" or leaf not in _STORAGES or not isinstance(key, str) or type(size) is not int:
        raise ValueError
    stack.append(_Storage(_STORAGES[leaf], key, size))


def _build(stack: list[Any]) -> None:
    """Attributes of the dictionary itself (``_metadata`` of a state_dict): not needed."""
    stack.pop()
    if not isinstance(stack[-1], dict):
        raise RefusedError("its pickle sets the state of something that is no dictionary")


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> ArchivedTensor:
    if not isinstance(storage, _Storage) or type(offset) is not int or offset < 0:
        raise TypeError
    if not all(type(size) is int and 0 <= size <= _MOST_VALUES for size in shape):
        raise ValueError
    step = 1
    for size, actual in zip(reversed(shape), reversed(stride), strict=True):
        if size > 1 and actual != step and 0 not in shape:
            raise RefusedError("a tensor in it is not stored row by row")
        step *= size
    return ArchivedTensor(storage.dtype, tuple(shape), storage.key, offset)


def _parameter(data: Any, *_: Any) -> ArchivedTensor:
    if not isinstance(data, ArchivedTensor):
        raise TypeError
    return data


def _ordered(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise RefusedError("its pickle fills a dictionary by a call")
    return {}


_CALLS: dict[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered,
}
_COMBINE: dict[str, Any] = {
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda stack: stack.append(tuple(_since_mark(stack))),
    "SETITEM": _set_one,
    "SETITEMS": _set_many,
    "APPEND": _append_one,
    "APPENDS": _append_many,
    "REDUCE": _call,
    "BINPERSID": _persistent,
    "BUILD": _build,
    "POP": list.pop,
}
