"""Licence headers cut off source files; RedPajama's way as RedPajama does it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.code.headers import LicenseHeaderEditor, license_headers, redpajama_headers
from arriero.data.records import apply_edits


def cleaned(text: str) -> str:
    return apply_edits(text, license_headers(text))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("# Copyright 2020 X\n# All rights reserved.\n\nimport os\n", "import os\n"),
        (
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# Copyright X\nx = 1\n",
            "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\nx = 1\n",
        ),
        ("/*\n * Licensed under the Apache License\n */\n\n#include <a.h>\n", "#include <a.h>\n"),
        ("#ifndef A\n#define A\n// Copyright X\nint a;\n", "#ifndef A\n#define A\nint a;\n"),
        ("// Adds numbers.\n// Fast.\nint a;\n", "// Adds numbers.\n// Fast.\nint a;\n"),
        ("// Copyright X\n\n// Adds numbers.\nint a;\n", "// Adds numbers.\nint a;\n"),
        ("// Adds.\n\n// Copyright X\nint a;\n", "// Adds.\n\nint a;\n"),
        ('"""Copyright 2020 X.\n\nLicensed under MIT.\n"""\nx = 1\n', "x = 1\n"),
        ('"""\nA lexer.\n\n:license: BSD\n"""\nx = 1\n', '"""\nA lexer.\n\n:license: BSD\n"""\nx = 1\n'),
        ("<?xml version='1.0'?>\n<!-- Copyright X -->\n<a/>\n", "<?xml version='1.0'?>\n<a/>\n"),
        ("-- Copyright X\nmodule A where\n", "module A where\n"),
        ("<?php\n/* Copyright X */\necho 1;\n", "<?php\necho 1;\n"),
        ("% (c) 2019 X\nf(1).\n", "f(1).\n"),
        ("/* Copyright X */ int a;\n", "/* Copyright X */ int a;\n"),
        ("x = 1  # Copyright X\n", "x = 1  # Copyright X\n"),
        ("# Copyright X", ""),
        ("", ""),
    ],
)
def test_headers(text: str, left: str) -> None:
    assert cleaned(text) == left


def as_redpajama_does(content: str) -> str:
    """clean_copyright_comments of RedPajama v1, told anew."""
    lines = content.split("\n")
    while lines and (not lines[0] or lines[0].lstrip().startswith(("//", "#", "--"))):
        lines.pop(0)
    top, rest = "\n".join(lines[:100]), lines[100:]
    found = re.search(r"/\*[^*]*\*+(?:[^/*][^*]*\*+)*/", top)
    if found and "copyright" in found[0].lower():
        top = top[: found.start()] + top[found.end() :]
    return top + ("\n" + "\n".join(rest) if rest else "")


LINES = st.sampled_from(
    [
        "",
        "# a",
        "// b",
        "  -- c",
        "#include <x>",
        "/* Copyright",
        " * more",
        " */",
        "/* other */",
        "int a;",
        "x*/y",
        "/*",
    ]
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=14), st.integers(0, 110))
def test_redpajamas_way_is_redpajamas(lines: list[str], padding: int) -> None:
    text = "\n".join([*lines[:7], *["code;"] * padding, *lines[7:]])
    assert apply_edits(text, redpajama_headers(text)) == as_redpajama_does(text)


@settings(deadline=None)
@given(st.text(alphabet="#/-*\"'<!> \ncopyright(){}=\ufeff", max_size=200))
def test_any_text_gives_edits_that_can_be_made(text: str) -> None:
    assert len(cleaned(text)) <= len(text)
    apply_edits(text, redpajama_headers(text))


def test_only_source_code_is_edited() -> None:
    text = "# Copyright 2020 X\nx = 1\n"
    assert LicenseHeaderEditor("license").edits(text, {"extractor": "resiliparse 1"}) == []
    assert LicenseHeaderEditor("none").edits(text, {"extractor": "code 1"}) == []
    (edit,) = LicenseHeaderEditor("license").edits(text, {"extractor": "code 1"})
    assert (edit.start, edit.end, edit.reason) == (0, 19, "code.license_header")
    (edit,) = LicenseHeaderEditor("redpajama").edits("#include <a>\nx", {"extractor": "code 1"})
    assert edit.end == 13
