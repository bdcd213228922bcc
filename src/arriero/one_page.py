"""A page of one file: its style and the parts of its script put into it, and headers that allow nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources


def load_page(package: str) -> tuple[str, dict[str, str]]:
    """``page/index.html`` of a package with the files that it names in comments, and the headers it is served with:
    its own script and style may run, by their hashes, and nothing from elsewhere."""
    folder = resources.files(package) / "page"

    def part(name: re.Match[str]) -> str:
        return (folder / name[1]).read_text("utf-8")

    page = re.sub(r"/\* (\w+\.(?:css|js)) \*/\n", part, (folder / "index.html").read_text("utf-8"))
    policy = (
        f"default-src 'none'; script-src {_hashes(page, 'script')}; style-src {_hashes(page, 'style')}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def _hashes(page: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
    return " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in found
    )
