"""Expressions and the names that people give licences."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.licenses.spdx import Expression, join, license_named, parse


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mit", "MIT"),
        ("MIT OR Apache-2.0 AND BSD-3-Clause", "MIT OR (Apache-2.0 AND BSD-3-Clause)"),
        ("(MIT OR Apache-2.0) AND ISC", "(MIT OR Apache-2.0) AND ISC"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ("LicenseRef-Own", "LicenseRef-Own"),
        ("MIT OR", None),
        ("MIT Apache-2.0", None),
        ("(MIT", None),
        ("", None),
        ("(" * 5000 + "MIT" + ")" * 5000, None),
        ("(" * 900 + "MIT" + ")" * 900, None),
    ],
)
def test_expressions(text: str, found: str | None) -> None:
    expression = parse(text)
    assert (str(expression) if expression else None) == found


LEAF = st.sampled_from(["MIT", "ISC", "Zlib", "Apache-2.0"]).map(lambda id: Expression("", id))
TREES = st.recursive(
    LEAF,
    lambda inner: st.tuples(st.sampled_from(["AND", "OR"]), st.lists(inner, min_size=2, max_size=3)).map(
        lambda made: join(made[0], made[1])  # type: ignore[arg-type]
    ),
    max_leaves=6,
)


def by_hand(tree: Expression, allowed: set[str]) -> bool:
    if tree.operator == "AND":
        return not any(not by_hand(part, allowed) for part in tree.parts)
    return any(by_hand(part, allowed) for part in tree.parts) if tree.operator else tree.id in allowed


@settings(deadline=None)
@given(TREES, st.sets(st.sampled_from(["MIT", "ISC", "Zlib", "Apache-2.0"])))
def test_what_is_written_is_read_and_judged_alike(tree: Expression, allowed: set[str]) -> None:
    again = parse(str(tree))
    assert again is not None and again.ids() == tree.ids() and str(again) == str(tree)
    assert again.allows(lambda id: id in allowed) == by_hand(tree, allowed)


@settings(deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="MIT()OR AND+-/v2. GPL", max_size=80))
def test_no_text_raises(text: str) -> None:
    parse(text)
    license_named(text)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Apache License, Version 2.0", "Apache-2.0"), ("The MIT License", "MIT"), ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
        ("BSD", "LicenseRef-BSD"), ("3-Clause BSD License", "BSD-3-Clause"), ("GPLv3+", "GPL-3.0-or-later"),
        ("GNU General Public License v2 (GPLv2)", "GPL-2.0"), ("GNU Affero General Public License v3", "AGPL-3.0"),
        ("GNU Lesser General Public License v2 or later (LGPLv2+)", "LGPL-2.0-or-later"),
        ("UNLICENSED", "LicenseRef-Proprietary"), ("SEE LICENSE IN X", None), ("Dual License", None),
        ("MIT and BSD", "MIT AND LicenseRef-BSD"), ("Python Software Foundation License", "PSF-2.0"),
    ],
)  # fmt: skip
def test_names(name: str, found: str | None) -> None:
    named = license_named(name)
    assert (str(named) if named else None) == found
