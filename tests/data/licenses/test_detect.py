"""The licence of a file: its tag, its header, the nearest folder's files; what is kept as evidence; the allow-list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.licenses.detect import LicenseTree, is_license_file, of_header
from arriero.data.licenses.metadata import declared, is_metadata
from arriero.data.licenses.policy import LicensePolicy, LicenseSettings

MIT = """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:
The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.
THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
APACHE_NOTICE = (
    "# Licensed under the Apache License, Version 2.0 (the License); you may not use this file except\n"
)
NAMES = [
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "PKG-INFO",
    "package.json",
    "composer.json",
    "Cargo.toml",
    "pom.xml",
]


def tree(files: dict[str, str]) -> LicenseTree:
    evidence: dict[str, list[str]] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        evidence.setdefault(folder, []).append(name)
    return LicenseTree(evidence, lambda path: files[path].encode() if path in files else None)


def found(files: dict[str, str], path: str, text: str = "x = 1\n") -> tuple[str, str]:
    one = tree(files).of_file(path, text)
    return str(one.license), one.evidence


def test_the_nearest_folder_counts() -> None:
    files = {
        "LICENSE": MIT,
        "vendor/lib/COPYING": APACHE_NOTICE,
        "other/package.json": '{"license": "GPL-3.0"}',
    }
    assert found(files, "a.py") == ("MIT", "text: MIT in LICENSE")
    assert found(files, "src/deep/a.py")[0] == "MIT"
    assert found(files, "vendor/lib/src/a.c") == ("Apache-2.0", "text: Apache-2.0 in vendor/lib/COPYING")
    assert found(files, "other/a.js") == ("GPL-3.0", "declared: other/package.json")
    assert found({}, "a/b/c.py") == ("None", "unknown: no tag, header, licence file or metadata")


def test_a_file_speaks_for_itself_before_its_folder() -> None:
    files = {"LICENSE": MIT}
    assert (
        found(files, "a.c", "/* SPDX-License-Identifier: GPL-2.0-only */\n")[1]
        == "tag: SPDX-License-Identifier"
    )
    assert found(files, "a.c", "/* SPDX-License-Identifier: GPL-2.0-only */\n")[0] == "GPL-2.0-only"
    assert found(files, "a.py", APACHE_NOTICE) == ("Apache-2.0", "text: Apache-2.0 in the file's header")
    two = "// SPDX-License-Identifier: MIT\n// SPDX-License-Identifier: ISC\n"
    assert found({}, "a.c", two)[0] == "MIT AND ISC"
    assert found(files, "a.py", 'PATTERN = "SPDX-License-Identifier: GPL-3.0"\n')[0] == "MIT"
    assert found(files, "a.py", "\n" * 90 + "# SPDX-License-Identifier: GPL-3.0\n")[0] == "MIT"
    assert found(files, "a.html", "<!-- SPDX-License-Identifier: (MIT OR ISC) -->\n")[0] == "MIT OR ISC"


def test_texts_and_metadata_of_one_folder_are_put_together() -> None:
    two = {"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE_NOTICE}
    assert found(two, "a.rs")[0] == "Apache-2.0 AND MIT"
    stated = {**two, "Cargo.toml": '[package]\nlicense = "MIT OR Apache-2.0"\n'}
    assert found(stated, "a.rs")[0] == "MIT OR Apache-2.0"
    contrary = {"LICENSE": MIT, "package.json": '{"license": "GPL-3.0"}'}
    assert found(contrary, "a.js")[0] == "MIT AND GPL-3.0"
    style = {"LICENSE": MIT, "pyproject.toml": "[project]\nname='x'\n"}
    assert found(style, "a.py")[0] == "MIT"


def test_a_licence_that_is_not_recognised_hides_what_lies_above() -> None:
    files = {"LICENSE": MIT, "vendor/LICENSE": "You may look at this code on Tuesdays."}
    assert found(files, "vendor/a.c") == ("None", "unknown: vendor/LICENSE not recognised")


@pytest.mark.parametrize(
    ("name", "content", "license"),
    [
        ("pyproject.toml", '[project]\nlicense = "BSD-3-Clause"', "BSD-3-Clause"),
        ("pyproject.toml", '[project]\nlicense = {text = "MIT"}', "MIT"),
        ("pyproject.toml", '[tool.poetry]\nlicense = "Apache-2.0"', "Apache-2.0"),
        ("pyproject.toml", '[project]\nclassifiers = ["License :: OSI Approved :: MIT License"]', "MIT"),
        ("setup.cfg", "[metadata]\nlicense = ISC\n", "ISC"),
        (
            "setup.cfg",
            "[metadata]\nclassifiers =\n  License :: OSI Approved :: BSD License\n",
            "LicenseRef-BSD",
        ),
        ("setup.py", "setup(name='x', license='MIT')", "MIT"),
        ("package.json", '{"license": "(MIT OR CC0-1.0)"}', "MIT OR CC0-1.0"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "GPL-2.0"}]}', "MIT OR GPL-2.0"),
        ("package.json", '{"license": "UNLICENSED"}', "LicenseRef-Proprietary"),
        ("Cargo.toml", '[workspace.package]\nlicense = "MIT/Apache-2.0"', "MIT OR Apache-2.0"),
        ("PKG-INFO", "Name: x\nLicense-Expression: MIT\nLicense: GPL\n\nLicense: none", "MIT"),
        (
            "pom.xml",
            "<licenses><license><name>Apache License, Version 2.0</name></license></licenses>",
            "Apache-2.0",
        ),
        ("package.json", "{", "None"),
        ("package.json", "[1, 2]", "None"),
        ("Cargo.toml", "package = 3", "None"),
        ("setup.cfg", "no sections", "None"),
    ],
)
def test_metadata(name: str, content: str, license: str) -> None:
    assert str(declared(name, content.encode())) == license


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_no_metadata_raises(name: str, content: bytes) -> None:
    declared(name, content)
    assert is_metadata(name)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_no_header_raises(text: str) -> None:
    of_header(text)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("LICENSE", True), ("License.txt", True), ("COPYING.LESSER", True), ("LICENSE-MIT", True), ("UNLICENSE", True),
     ("licence.md", True), ("MIT-LICENSE.txt", True), ("license.py", False), ("licensing.md", False), ("copying.c", False)],
)  # fmt: skip
def test_names_of_licence_files(name: str, answer: bool) -> None:
    assert is_license_file(name) is answer


@pytest.mark.parametrize(
    ("license", "settings", "stays"),
    [
        ("MIT", {}, True),
        ("Apache-2.0", {}, True),
        ("BSD-3-Clause", {}, True),
        ("LicenseRef-BSD", {}, True),
        ("Apache-2.0 WITH LLVM-exception", {}, True),
        ("ISC", {}, False),
        ("ISC", {"preset": "permissive"}, True),
        ("GPL-3.0-or-later", {}, False),
        ("GPL-3.0-or-later", {"allow": ["GPL-3.0"]}, True),
        ("MIT OR GPL-3.0", {}, True),
        ("MIT AND GPL-3.0", {}, False),
        ("(MIT OR GPL-3.0) AND BSD-2-Clause", {}, True),
        (None, {}, False),
        ("unknown", {}, False),
        ("unknown", {"unknown": True}, True),
        ("who knows", {}, False),
        ("CC-BY-SA-3.0 AND CC-BY-SA-4.0", {"preset": "none", "allow": ["CC-BY-SA-*"]}, True),
        ("MIT", {"preset": "none"}, False),
    ],
)
def test_the_allow_list(license: str | None, settings: dict[str, object], stays: bool) -> None:
    assert LicensePolicy(LicenseSettings(**settings)).allows(license) is stays  # type: ignore[arg-type]
