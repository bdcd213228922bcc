"""What a package's own metadata declares as its licence."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from arriero.data.licenses.spdx import Expression, join, license_named

_CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?(.+)")
_HEADER = re.compile(r"^(License-Expression|License|Classifier):[ \t]*(.*)$", re.MULTILINE)
_SETUP_PY = re.compile(r"\blicense\s*=\s*[\"']([^\"'\n]{1,200})[\"']")
_POM = re.compile(r"<license>\s*<name>([^<]{1,200})</name>")
MOST_BYTES = 1 << 20


def declared(name: str, content: bytes) -> Expression | None:
    """The licence that a metadata file declares; None when it declares none, or none that is known.

    ``name``: the file's name: pyproject.toml, setup.cfg, setup.py, PKG-INFO, METADATA, package.json, composer.json,
    Cargo.toml, pom.xml, DESCRIPTION. A broken file declares nothing.
    """
    read = _READERS.get(name)
    if read is None or len(content) > MOST_BYTES:
        return None
    try:
        return read(content.decode("utf-8-sig", "replace"))
    except (ValueError, TypeError, AttributeError, RecursionError, configparser.Error):
        return None


def is_metadata(name: str) -> bool:
    """Whether a file of this name may declare a licence."""
    return name in _READERS


def _pyproject(text: str) -> Expression | None:
    data = tomllib.loads(text)
    project = data.get("project", {})
    poetry = data.get("tool", {}).get("poetry", {})
    classifiers = [*project.get("classifiers", []), *poetry.get("classifiers", [])]
    return _first(_value(project.get("license")), _value(poetry.get("license"))) or _classified(classifiers)


def _cargo(text: str) -> Expression | None:
    data = tomllib.loads(text)
    package = data.get("package", {})
    own = package.get("license")
    return _first(_value(own), _value(data.get("workspace", {}).get("package", {}).get("license")))


def _package_json(text: str) -> Expression | None:
    data = json.loads(text)
    listed = data.get("licenses") or data.get("license")
    if isinstance(listed, list):
        named = [_value(one) for one in listed[:16]]
        return join("OR", [one for one in named if one]) if named and all(named) else None
    return _value(listed)


def _setup_cfg(text: str) -> Expression | None:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(text)
    section: Mapping[str, str] = dict(parser["metadata"]) if parser.has_section("metadata") else {}
    classifiers = section.get("classifiers", section.get("classifier", "")).splitlines()
    return _value(section.get("license")) or _classified([line.strip() for line in classifiers])


def _setup_py(text: str) -> Expression | None:
    found = _SETUP_PY.search(text)
    classifiers = re.findall(r"[\"'](License :: [^\"'\n]{1,200})[\"']", text)
    return (_value(found[1]) if found else None) or _classified(classifiers)


def _headers(text: str) -> Expression | None:
    head = text.split("\n\n", 1)[0]
    fields: dict[str, list[str]] = {}
    for found in _HEADER.finditer(head):
        fields.setdefault(found[1], []).append(found[2].strip())
    expression, license = fields.get("License-Expression", [""])[0], fields.get("License", [""])[0]
    return _first(_value(expression), _value(license)) or _classified(fields.get("Classifier", []))


def _pom(text: str) -> Expression | None:
    named = [license_named(name) for name in _POM.findall(text)[:16]]
    return join("OR", [one for one in named if one]) if named and all(named) else None


def _value(value: Any) -> Expression | None:
    if isinstance(value, Mapping):
        value = value.get("text") or value.get("type") or value.get("name")
    return license_named(value) if isinstance(value, str) and value.strip() and len(value) <= 300 else None


def _first(*found: Expression | None) -> Expression | None:
    return next((one for one in found if one), None)


def _classified(classifiers: list[Any]) -> Expression | None:
    """Licences of trove classifiers; several are alternatives by custom."""
    named = []
    for one in classifiers[:200]:
        found = _CLASSIFIER.fullmatch(one) if isinstance(one, str) else None
        name = license_named(found[1]) if found else None
        if name:
            named.append(name)
    return join("OR", named) if named else None


_READERS: dict[str, Callable[[str], Expression | None]] = {
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
    "PKG-INFO": _headers,
    "METADATA": _headers,
    "DESCRIPTION": _headers,
    "package.json": _package_json,
    "composer.json": _package_json,
    "Cargo.toml": _cargo,
    "pom.xml": _pom,
}
