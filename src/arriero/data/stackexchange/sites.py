"""The sites of Stack Exchange: what a dump's path says about its site, and the 28 largest."""

from __future__ import annotations

import re
from pathlib import Path

LARGEST_28 = (
    "stackoverflow.com", "math.stackexchange.com", "superuser.com", "askubuntu.com", "serverfault.com",
    "tex.stackexchange.com", "ru.stackoverflow.com", "unix.stackexchange.com", "codereview.stackexchange.com",
    "physics.stackexchange.com", "stats.stackexchange.com", "mathoverflow.net", "english.stackexchange.com",
    "electronics.stackexchange.com", "softwareengineering.stackexchange.com", "pt.stackoverflow.com",
    "gis.stackexchange.com", "scifi.stackexchange.com", "gaming.stackexchange.com", "dba.stackexchange.com",
    "apple.stackexchange.com", "wordpress.stackexchange.com", "codegolf.stackexchange.com",
    "mathematica.stackexchange.com", "security.stackexchange.com", "drupal.stackexchange.com",
    "salesforce.stackexchange.com", "sharepoint.stackexchange.com",
)  # fmt: skip
"""The 28 largest sites, largest first, by the size of their archives in the Internet Archive's listing of the dump of
13 June 2017, without the sites about sites ("meta"). Llama-1 keeps "the 28 largest websites" (Touvron et al. 2023,
section 2.1) and does not name them; RedPajama counts posts of its own dump, so a few at the end may differ."""

SITE_PRESETS = {"largest-28": LARGEST_28}

_SITE = re.compile(
    r"((?:[a-z0-9-]+\.)*(?:stackexchange|stackoverflow)\.com"
    r"|(?:meta\.)?(?:superuser|serverfault|askubuntu|stackapps)\.com|(?:meta\.)?mathoverflow\.net)(?![a-z0-9])",
    re.IGNORECASE,
)


def site_of(path: Path) -> str | None:
    """The site's address in a dump's path: its folder's name (``coffee.stackexchange.com/Posts.xml``) or its own
    (``stackoverflow.com-Posts.xml``, ``coffee.stackexchange.com.xml``); ``coffee`` of ``stackexchange_coffee``;
    None where none of these is there."""
    for name in (path.name, path.parent.name):
        found = _SITE.search(name)
        if found:
            return found[1].lower()
    found = re.fullmatch(r"stackexchange[_-]([a-z0-9]+)", path.parent.name)
    return f"{found[1]}.stackexchange.com" if found else None
