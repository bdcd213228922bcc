"""Who does not want to be in the corpus: domains, beginnings of addresses, robots.txt-like rules, record ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arriero.data.filters.base import Doc, Verdict, strings_of
from arriero.data.filters.hash_list import (
    HashList,
    domain_key,
    domains_of,
    entries_of,
    prefix_key,
    prefix_keys_of_url,
    split_url,
)
from arriero.data.filters.settings import OptOut

if TYPE_CHECKING:
    import pyarrow as pa


class OptOutFilter:
    """Drops what a list names; every hit's reason names the list."""

    stage = "optout"
    needs: Literal["record", "text"] = "record"
    reasons = ("optout.domains", "optout.urls", "optout.robots", "optout.ids")

    def __init__(self, settings: OptOut) -> None:
        """Raises:
        ArrieroError: a list cannot be read.
        """
        self._domains = HashList.read(settings.domains, domain_key) if settings.domains else None
        self._urls = HashList.read(settings.urls, prefix_key) if settings.urls else None
        self._robots = read_robots(settings.robots, settings.agents) if settings.robots else {}
        self._ids = HashList.read(settings.ids, _id_key) if settings.ids else None

    def measure(self, doc: Doc) -> Mapping[str, float | str]:
        return {}

    def judge(self, columns: Mapping[str, Any]) -> Verdict | None:
        """By the columns ``url`` and ``id``."""
        number = self._hit(columns.get("url"), columns.get("id"))
        return None if number < 0 else Verdict(self.reasons[number], 1.0, 0.0)

    def judge_table(self, table: pa.Table) -> NDArray[np.int64]:
        pairs = zip(strings_of(table, "url"), strings_of(table, "id"), strict=True)
        return np.array([self._hit(url, id) for url, id in pairs], np.int64)

    def _hit(self, url: str | None, id: str | None) -> int:
        if url:
            host, rest = split_url(url)
            if self._domains and self._domains.first_of([f"d:{name}" for name in domains_of(host)]) >= 0:
                return 0
            if self._urls and self._urls.first_of(prefix_keys_of_url(url)) >= 0:
                return 1
            if host in self._robots and self._robots[host].forbids(rest or "/"):
                return 2
        if id and self._ids and self._ids.first_of([f"i:{id}"]) >= 0:
            return 3
        return -1


def _id_key(entry: str) -> str:
    return f"i:{entry}"


# ---------------------------------------------------------------------------------------- robots


@dataclass
class SiteRules:
    """What one site says to one agent (RFC 9309): the longest matching path decides, of equal ones Allow."""

    rules: list[tuple[int, bool, str]] = field(default_factory=list)
    """Length of the path, whether it is allowed, the path."""

    def add(self, path: str, allowed: bool) -> None:
        """An Allow or Disallow line; an empty Disallow forbids nothing."""
        if path:
            self.rules.append((len(path), allowed, path))

    def forbids(self, path: str) -> bool:
        """Whether the path (with its query) may not be used."""
        best = max(
            ((size, allowed) for size, allowed, rule in self.rules if _matches(rule, path)), default=None
        )
        return best is not None and not best[1]


def _matches(rule: str, path: str) -> bool:
    """``*`` stands for anything, ``$`` at the end for the address's end; in linear time, whatever the rule."""
    first, *others = rule.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    if rule.endswith("$"):
        if not others:
            return path == first
        last = others.pop()
        if not path.endswith(last) or len(path) < len(first) + len(last):
            return False
        path = path[: len(path) - len(last)]
    position = len(first)
    for piece in others:
        found = path.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def read_robots(path: Path, agents: Sequence[str]) -> dict[str, SiteRules]:
    """Rules by host, for the first of ``agents`` that the host's rules name.

    The file holds robots.txt or ai.txt files of many sites, each behind a line ``Host: example.org``; lines before the
    first host are left out.

    Raises:
        ArrieroError: the file cannot be read.
    """
    sites: dict[str, dict[str, SiteRules]] = {}
    groups: dict[str, SiteRules] = {}
    current: list[SiteRules] = []
    naming = False
    for line in entries_of(path):
        name, _, value = line.partition("#")[0].partition(":")
        name, value = name.strip().lower(), value.strip()
        if name == "host":
            groups, current, naming = sites.setdefault(split_url(value)[0], {}), [], False
        elif name == "user-agent":
            current = [*(current if naming else []), groups.setdefault(value.lower(), SiteRules())]
            naming = True
        elif name in ("allow", "disallow"):
            naming = False
            for rules in current:
                rules.add(value, name == "allow")
    wanted = [agent.lower() for agent in agents]
    chosen = {}
    for host, of_host in sites.items():
        named = next((of_host[agent] for agent in wanted if agent in of_host), None)
        if named is not None and host:
            chosen[host] = named
    return chosen
