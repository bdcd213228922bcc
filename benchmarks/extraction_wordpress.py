"""How well main content is found on pages that WordPress makes of texts that are known: F1 by theme and tier.

    python benchmarks/extraction_wordpress.py TEXTS.jsonl.gz [--wordpress /usr/share/wordpress] [--tiers ...]

The posts of ``extraction_blogs.py``, with categories, tags, two comments each and the standard blocks of links, rendered
by WordPress with each of its own themes. It needs PHP with its MySQL module, MariaDB and WordPress with themes (Debian:
``wordpress wordpress-theme-twentytwentythree wordpress-theme-twentytwentytwo wordpress-theme-twentytwentyone mariadb-server
php-cli php-mysql``); the database is made in a temporary folder and listens on a socket file only, the site on loopback.
None of the rules of ``arriero.data.pages`` was made on such pages.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from extraction_blogs import is_heading, posts, report, title_of

_ADDRESS = "127.0.0.1:8399"
_CONFIG = """<?php
define('DB_NAME', 'blog'); define('DB_USER', 'root'); define('DB_PASSWORD', ''); define('DB_CHARSET', 'utf8mb4');
define('DB_HOST', 'localhost:{socket}'); define('DB_COLLATE', ''); $table_prefix = 'wp_';
define('WP_HTTP_BLOCK_EXTERNAL', true); define('DISABLE_WP_CRON', true); define('WP_SITEURL', 'http://{address}');
define('WP_HOME', 'http://{address}'); define('ABSPATH', '{site}/');
require_once ABSPATH . 'wp-settings.php';
"""
_INSTALL = """<?php
define('WP_INSTALLING', true); $_SERVER['HTTP_HOST'] = '{address}'; $_SERVER['SERVER_PROTOCOL'] = 'HTTP/1.1';
require '{site}/wp-load.php'; require ABSPATH . 'wp-admin/includes/upgrade.php';
function wp_mail() {{ return true; }}
wp_install('Notes from the coast', 'editor', 'editor@blog.example', true, '', 'not-a-secret');
$found = [];
foreach (json_decode(file_get_contents('{posts}'), true) as $n => $post) {{
  $id = wp_insert_post(['post_title' => $post['title'], 'post_content' => $post['body'], 'post_status' => 'publish',
    'post_author' => 1, 'post_date' => $post['date'], 'tags_input' => $post['tags']]);
  foreach ($post['comments'] as $comment) wp_insert_comment(['comment_post_ID' => $id, 'comment_author' => 'A reader',
    'comment_content' => $comment, 'comment_approved' => 1]);
  $found[] = $id;
}}
echo json_encode(['posts' => $found, 'themes' => array_keys(wp_get_themes())]);
"""
_SWITCH = """<?php
$_SERVER['HTTP_HOST'] = '{address}'; require '{site}/wp-load.php'; switch_theme('{theme}');
"""


def _php(program: str) -> str:
    return subprocess.run(
        ["php"], input=program, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ).stdout


@contextlib.contextmanager
def _running(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def database(folder: Path) -> Iterator[Path]:
    """A MariaDB of its own with a database ``blog``; gives its socket file."""
    data, socket = folder / "database", folder / "socket"
    user = f"--user={Path.home().owner()}"
    subprocess.run(
        ["mariadb-install-db", f"--datadir={data}", "--auth-root-authentication-method=normal", user],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    server = [
        "mariadbd",
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={socket}",
        "--skip-networking",
        user,
    ]
    with _running(server):
        for _ in range(300):
            if socket.exists():
                break
            time.sleep(0.1)
        sql = ["mariadb", "--no-defaults", f"--socket={socket}", "-uroot", "-e", "CREATE DATABASE blog"]
        subprocess.run(sql, check=True)
        yield socket


def _post(number: int, text: list[str], others: list[list[str]]) -> dict[str, Any]:
    tags = {True: "h2", False: "p"}
    body = "\n\n".join(
        f"<{tags[is_heading(part)]}>{html.escape(part)}</{tags[is_heading(part)]}>" for part in text
    )
    comments = [" ".join(others[(number + step) % len(others)][0].split()[:40]) for step in (3, 7)]
    day = f"2025-{number % 12 + 1:02}-{number % 28 + 1:02} 10:00:00"
    made = {"title": title_of(text), "body": body, "date": day, "comments": comments}
    return {**made, "tags": ["letters", f"topic {number % 9}"]}


def _fetch(post: int) -> str:
    with urllib.request.urlopen(f"http://{_ADDRESS}/?p={post}", timeout=60) as answer:
        return str(answer.read().decode("utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--wordpress", type=Path, default=Path("/usr/share/wordpress"))
    parser.add_argument("--tiers", nargs="+", default=["resiliparse", "trafilatura"])
    asked = parser.parse_args()
    texts = posts(asked.texts)
    with tempfile.TemporaryDirectory() as place, database(Path(place)) as socket:
        site = Path(place) / "site"
        shutil.copytree(asked.wordpress, site, ignore=shutil.ignore_patterns("wp-config.php"))
        names = {"site": site, "address": _ADDRESS, "socket": socket, "posts": Path(place) / "posts.json"}
        (site / "wp-config.php").write_text(_CONFIG.format(**names))
        names["posts"].write_text(json.dumps([_post(n, text, texts) for n, text in enumerate(texts)]))
        made = json.loads(_php(_INSTALL.format(**names)))
        everything: list[dict[str, Any]] = []
        print(f"{len(texts)} posts by theme of WordPress\n{'theme':18} {'tier':12} precision recall     F1")
        with _running(["php", "-S", _ADDRESS, "-t", str(site)]):
            time.sleep(1)
            for theme in made["themes"]:
                _php(_SWITCH.format(theme=theme, **names))
                pages = [
                    {"html": _fetch(post), "articleBody": "\n".join(text)}
                    for post, text in zip(made["posts"], texts, strict=True)
                ]
                everything += pages
                report(theme, pages, asked.tiers)
        report("all", everything, asked.tiers)


if __name__ == "__main__":
    main()
