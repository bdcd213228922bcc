"""Building and loading: what fits is loaded, for everything else there is a reason in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from arriero.errors import ArrieroError
from arriero.native import library
from arriero.native.build import BuildError, build, compiler, sources_hash

FUNCTIONS = [
    "ar_product_scratch", "ar_product_prepare", "ar_product", "ar_linear", "ar_set_threads", "ar_get_threads",
    "ar_level", "ar_set_level", "ar_has_bf16",
]  # fmt: skip


def needs_a_compiler() -> None:
    try:
        compiler()
    except BuildError as error:
        pytest.skip(str(error))


def small_sources(folder: Path, abi: int = library.ABI) -> Path:
    """A library with the right names and nothing in them."""
    folder.mkdir()
    lines = [f"int {name}(void) {{ return 0; }}" for name in FUNCTIONS]
    lines += [f"int ar_abi(void) {{ return {abi}; }}", "const char *ar_sources(void) { return AR_SOURCES; }"]
    (folder / "all.c").write_text("\n#pragma GCC visibility push(default)\n" + "\n".join(lines) + "\n")
    return folder


def test_what_was_built_is_loaded(tmp_path: Path) -> None:
    needs_a_compiler()
    sources = small_sources(tmp_path / "csrc")
    target = build(tmp_path / "_native.so", sources)
    found, reason = library.load(target, sources)
    assert found is not None and reason == ""
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["_native.so"]


def test_a_stale_library_is_not_loaded(tmp_path: Path) -> None:
    needs_a_compiler()
    sources = small_sources(tmp_path / "csrc")
    target = build(tmp_path / "_native.so", sources)
    before = sources_hash(sources)
    (sources / "all.c").write_text((sources / "all.c").read_text() + "\n")
    assert sources_hash(sources) != before
    found, reason = library.load(target, sources)
    assert found is None and "older than its sources; `python -m arriero.native build`" in reason


def test_another_interface_is_not_loaded(tmp_path: Path) -> None:
    needs_a_compiler()
    sources = small_sources(tmp_path / "csrc", abi=library.ABI + 1)
    found, reason = library.load(build(tmp_path / "_native.so", sources), sources)
    assert found is None and f"has the interface {library.ABI + 1} and {library.ABI} is needed" in reason


def test_a_missing_and_a_damaged_library(tmp_path: Path) -> None:
    found, reason = library.load(tmp_path / "_native.so", tmp_path)
    assert found is None and "was not built" in reason
    (tmp_path / "_native.so").write_bytes(b"no library")
    found, reason = library.load(tmp_path / "_native.so", tmp_path)
    assert found is None and "does not load" in reason


def test_a_failed_build_leaves_what_was_there(tmp_path: Path) -> None:
    needs_a_compiler()
    sources, target = small_sources(tmp_path / "csrc"), tmp_path / "_native.so"
    target.write_bytes(b"old")
    (sources / "bad.c").write_text("int broken(\n")
    with pytest.raises(BuildError, match=r"failed: .*error"):
        build(target, sources)
    assert target.read_bytes() == b"old"


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(BuildError, match="there is no C compiler"):
        build(tmp_path / "_native.so")
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    with pytest.raises(BuildError, match="CC names no-such-compiler, which is not there"):
        compiler()


def test_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, "0")
    assert not library.available() and library.level() == "none"
    assert library.why_not() == "ARRIERO_NATIVE=0 leaves it aside"
    with pytest.raises(ArrieroError, match="cannot be used: ARRIERO_NATIVE=0"):
        library.library()


@pytest.mark.usefixtures("native")
def test_levels_by_name() -> None:
    before = library.level()
    try:
        assert library.set_level("portable") == library.level() == "portable"
        with pytest.raises(ArrieroError, match="sse9 is no level"):
            library.set_level("sse9")
    finally:
        library.set_level(before)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(
    ("wanted", "says"), [("portable", "portable, "), ("mmx", "ARRIERO_NATIVE_LEVEL=mmx is none")]
)
def test_the_level_from_the_environment(wanted: str, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "arriero.native"], env={**os.environ, library.LEVEL: wanted},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert says in done.stdout
