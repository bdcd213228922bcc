"""Whole licence texts: found in copies that differ, told from their relatives, several in one text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.licenses.match import match
from arriero.data.licenses.notices import noticed
from arriero.data.licenses.table import make, sketches
from arriero.data.licenses.words import shingles, words

MIT = """Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
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
CLAUSES = """Redistribution and use in source and binary forms, with or without modification, are permitted provided
that the following conditions are met:
1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
"""
ADVERTISING = """3. All advertising materials mentioning features or use of this software must display the following
   acknowledgement: This product includes software developed by the University of California, Berkeley and its
   contributors.
"""
NAMES = """3. Neither the name of Example Inc. nor the names of its contributors may be used to endorse or promote
   products derived from this software without specific prior written permission.
"""
DISCLAIMER = """THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED
WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR
PURPOSE ARE DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT,
INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS
OR SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""
ISC = """Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is
hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE.
"""


def ids(text: str) -> list[str]:
    return [one.id for one in match(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (MIT, ["MIT"]),
        (MIT.split("The above")[0] + MIT[MIT.index("THE SOFTWARE IS") :], ["MIT-0"]),
        (CLAUSES + DISCLAIMER, ["BSD-2-Clause"]),
        (CLAUSES + NAMES + DISCLAIMER, ["BSD-3-Clause"]),
        (CLAUSES + ADVERTISING + NAMES + DISCLAIMER, ["BSD-4-Clause"]),
        (ISC, ["ISC"]),
        (
            ISC.replace(
                "provided that the above\ncopyright notice and this permission notice appear in all copies",
                "",
            ),
            ["0BSD"],
        ),
        (MIT + "\n\n" + CLAUSES + NAMES + DISCLAIMER, ["BSD-3-Clause", "MIT"]),
        (MIT[:300], []),
        ("All rights reserved. Do not copy.", []),
        (MIT + "\nThe Software shall be used for Good, not Evil.", ["MIT", "JSON"]),
        ('"Commons Clause" License Condition v1.0\n' + MIT, ["MIT", "LicenseRef-Commons-Clause"]),
    ],
)
def test_texts(text: str, found: list[str]) -> None:
    assert ids(text) == found


@pytest.mark.parametrize("mark", ["# ", "// ", " * ", "-- ", "; ", "% ", "REM "])
def test_comment_marks_do_not_matter(mark: str) -> None:
    assert ids("".join(mark + line + "\n" for line in MIT.splitlines())) == ["MIT"]


@settings(deadline=None)
@given(st.data())
def test_a_copy_with_a_few_other_words_is_still_found(data: st.DataObject) -> None:
    parts = (CLAUSES + NAMES + DISCLAIMER).split(" ")
    for at in data.draw(st.lists(st.integers(0, len(parts) - 1), max_size=4)):
        if parts[at].lower().strip(".,") not in ("endorse", "or", "promote"):
            parts[at] = "something"
    assert ids(" ".join(parts)) == ["BSD-3-Clause"]


@settings(deadline=None)
@given(st.text(max_size=300))
def test_no_text_raises_and_short_ones_are_no_licence(text: str) -> None:
    assert ids(text) == [] or "clause" in text.lower()
    assert isinstance(noticed(text), list)


COMMON = Path("/usr/share/common-licenses")


@pytest.mark.skipif(not COMMON.is_dir(), reason="no Debian licence texts here")
@pytest.mark.parametrize(
    "id",
    [
        "Apache-2.0",
        "BSD",
        "GPL-1",
        "GPL-2",
        "GPL-3",
        "LGPL-2",
        "LGPL-2.1",
        "LGPL-3",
        "MPL-1.1",
        "MPL-2.0",
        "GFDL-1.2",
        "GFDL-1.3",
        "CC0-1.0",
        "Artistic",
    ],
)
def test_whole_texts_of_debian(id: str) -> None:
    file = COMMON / id
    if not file.exists():
        pytest.skip(f"no {file}")
    name = {"BSD": "BSD-3-Clause", "Artistic": "Artistic-1.0"}.get(id, id if "." in id else id + ".0")
    assert ids(file.read_text("utf-8")) == [name]


def test_the_table_is_made_from_texts(tmp_path: Path) -> None:
    (tmp_path / "MIT.txt").write_text(MIT)
    ((size, packed),) = make(tmp_path).values()
    assert size == len(shingles(words(MIT))) and packed
    assert len({one.id for one in sketches()}) >= 25


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("# Licensed under the Apache License, Version 2.0 (the\n# \"License\")", ["Apache-2.0"]),
        ("// Use of this source code is governed by a BSD-style license that can be found in the LICENSE file.", []),
        ("/* This program is free software; you can redistribute it and/or modify it under the terms of the GNU General"
         " Public License as published by the Free Software Foundation; either version 2 of the License, or (at your"
         " option) any later version. */", ["GPL-2.0-or-later"]),
        ("under the terms of version 3 of the GNU Lesser General Public License", ["LGPL-3.0"]),
        ("GNU Affero General Public License", ["LicenseRef-AGPL"]),
        ("Released under the MIT license.", ["MIT"]),
        ("This Source Code Form is subject to the terms of the Mozilla Public License, v. 2.0.", ["MPL-2.0"]),
        ("Unauthorized copying of this file is strictly prohibited", ["LicenseRef-Proprietary"]),
        ("we admit that this is a summit of wit", []),
    ],
)  # fmt: skip
def test_notices(header: str, found: list[str]) -> None:
    assert noticed(header) == found
