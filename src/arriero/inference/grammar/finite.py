"""Schemas that only endless texts would obey: references that require themselves."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote


def without_endless(schema: Any) -> Any:
    """The schema, where every part that no finite value obeys has become ``false``.

    A grammar would let an answer into such a part and never out again. A schema has a finite value when it
    needs only references that have one; that is the least fixed point over the references.
    """
    targets = {r: resolve(schema, r) for r in _references(schema)}
    ending = {r for r, target in targets.items() if not isinstance(target, dict)}
    while True:
        more = {r for r in targets.keys() - ending if _ends(targets[r], ending)}
        if not more:
            break
        ending |= more
    return schema if ending == targets.keys() else _pruned(schema, ending)


def resolve(schema: Any, reference: str) -> Any:
    """What a reference of the form ``#/a/b`` points to; None for what is not there, and for other forms."""
    if reference not in ("#",) and not reference.startswith("#/"):
        return None
    part = schema
    for name in unquote(reference[1:]).split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list) and name.isdecimal() and int(name) < len(part):
            part = part[int(name)]
        elif isinstance(part, dict) and name in part:
            part = part[name]
        else:
            return None
    return part


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def _ends(schema: Any, ending: set[str]) -> bool:
    """Whether the schema has a finite value if the references in ``ending`` have, and no others."""
    if not isinstance(schema, dict):
        return True
    if isinstance(schema.get("$ref"), str) and schema["$ref"] not in ending:
        return False
    if not all(_ends(part, ending) for part in _list(schema, "allOf")):
        return False
    for key in ("anyOf", "oneOf"):
        if _list(schema, key) and not any(_ends(part, ending) for part in _list(schema, key)):
            return False
    return all(_ends(part, ending) for part in _needed(schema))


def _needed(schema: dict[str, Any]) -> list[Any]:
    """The parts that every value of the schema holds."""
    if schema.get("type") in ("object", ["object"]):
        properties = schema.get("properties")
        names = [name for name in _list(schema, "required") if isinstance(name, str)]
        return (
            [properties[name] for name in names if name in properties] if isinstance(properties, dict) else []
        )
    if schema.get("type") in ("array", ["array"]):
        least = schema.get("minItems", 0)
        least = int(least) if isinstance(least, int | float) else 0
        first = _list(schema, "prefixItems")
        return first[:least] + ([schema.get("items")] if least > len(first) else [])
    return []


def _pruned(value: Any, ending: set[str]) -> Any:
    if isinstance(value, dict):
        return False if not _ends(value, ending) else {k: _pruned(v, ending) for k, v in value.items()}
    return [_pruned(v, ending) for v in value] if isinstance(value, list) else value


def _list(schema: dict[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []
