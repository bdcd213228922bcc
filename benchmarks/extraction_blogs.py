"""How well main content is found on pages that real blog software makes of texts that are known: F1 by theme and tier.

    python benchmarks/extraction_blogs.py TEXTS.jsonl.gz [--folder DIR] [--themes landscape next ...] [--tiers ...]

Posts are made of the ``text`` of seeded lines of TEXTS (150 to 1,500 words; each line a paragraph, a short one without
an end a heading), given titles, dates, tags and categories, and rendered by Hexo with themes that its users choose
most, each with its own menus, side columns, lists of posts and footers. npm installs Hexo and the themes in ``--folder``
(by default a temporary one).
None of the rules of ``arriero.data.pages`` was made on such pages. What is measured: scores of ``extraction.py``, the
post's text being the true one.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import html
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from extraction import measure

THEMES = ("landscape", "next", "butterfly", "fluid", "icarus", "stellar")
_POSTS = 40
_PACKAGES = (
    "hexo hexo-cli hexo-generator-index hexo-generator-archive hexo-generator-tag hexo-generator-category "
    "hexo-renderer-marked hexo-renderer-ejs hexo-renderer-stylus hexo-renderer-pug"
)
_CONFIG = """title: Notes from the coast
subtitle: What we read and wrote
description: A blog about many things
author: The editors
language: en
url: http://blog.example
permalink: ":year/:title/"
theme: {theme}
index_generator: {{per_page: 10, order_by: -date}}
"""


def _paragraphs(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def is_heading(line: str) -> bool:
    """A short line without an end."""
    return len(line) < 60 and line[-1].isalpha()


def posts(texts: Path) -> list[list[str]]:
    """Paragraphs of the texts drawn."""
    with gzip.open(texts, "rt", encoding="utf-8") as lines:
        known = [_paragraphs(json.loads(line)["text"]) for line in lines]
    fitting = [text for text in known if 150 <= sum(len(part.split()) for part in text) <= 1500]
    return random.Random(1).sample(fitting, min(_POSTS, len(fitting)))


def title_of(text: list[str]) -> str:
    """The first words."""
    return " ".join(re.findall(r"\w+", text[0])[:7])


def _write_post(folder: Path, number: int, text: list[str]) -> None:
    body = "\n\n".join(
        f"<h2>{html.escape(part)}</h2>" if is_heading(part) else f"<p>{html.escape(part)}</p>"
        for part in text
    )
    day = f"2025-{number % 12 + 1:02}-{number % 28 + 1:02} 10:00:00"
    head = {
        "title": title_of(text),
        "date": day,
        "tags": ["letters", f"topic {number % 9}"],
        "disableNunjucks": True,
    }
    head["categories"] = ["Reading" if number % 2 else "Travel"]
    (folder / f"post-{number}.md").write_text(f"{json.dumps(head)[1:-1]}\n;;;\n{body}\n", "utf-8")


def site(folder: Path, texts: list[list[str]], themes: list[str]) -> None:
    """Install Hexo and the themes, and write the posts.

    Raises:
        subprocess.CalledProcessError: npm failed.
    """
    (folder / "source/_posts").mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"name": "blog", "private": true, "hexo": {"version": ""}}')
    packages = _PACKAGES.split() + [f"hexo-theme-{theme}" for theme in themes]
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", *packages]
    subprocess.run(install, cwd=folder, check=True)
    for number, text in enumerate(texts):
        _write_post(folder / "source/_posts", number, text)


def pages(folder: Path, texts: list[list[str]], theme: str) -> list[dict[str, Any]]:
    """Each post as the theme renders it, with its text."""
    (folder / "_config.yml").write_text(_CONFIG.format(theme=theme))
    for command in (["clean"], ["generate"]):
        subprocess.run(["npx", "hexo", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    found = []
    for number, text in enumerate(texts):
        (page,) = folder.glob(f"public/2025/post-{number}/index.html")
        found.append({"html": page.read_text("utf-8"), "articleBody": "\n".join(text)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--themes", nargs="+", default=list(THEMES))
    parser.add_argument("--tiers", nargs="+", default=["resiliparse", "trafilatura"])
    asked = parser.parse_args()
    texts = posts(asked.texts)
    with contextlib.ExitStack() as stack:
        folder = asked.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="blogs-")))
        _measure(folder, texts, asked.themes, asked.tiers)


def _measure(folder: Path, texts: list[list[str]], themes: list[str], tiers: list[str]) -> None:
    site(folder, texts, themes)
    print(f"{len(texts)} posts by theme of Hexo\n{'theme':18} {'tier':12} precision recall     F1")
    everything: list[dict[str, Any]] = []
    for theme in themes:
        made = pages(folder, texts, theme)
        everything += made
        report(theme, made, tiers)
    report("all", everything, tiers)


def report(name: str, made: list[dict[str, Any]], tiers: list[str]) -> None:
    """Print the scores of every tier on these pages."""
    for tier in tiers:
        score, _ = measure(made, tier, rounds=1)
        print(f"{name:18} {tier:12} {score.precision:9.4f} {score.recall:6.4f} {score.f1:6.4f}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
