"""Documents by licence, one at a time and a whole ledger at once."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from arriero.data.filters import FilterSettings, build_filters
from arriero.data.filters.license import LicenseFilter
from arriero.data.licenses.policy import LicenseSettings

LICENSES = st.sampled_from(["MIT", "GPL-3.0", "MIT OR GPL-3.0", "MIT AND GPL-3.0", "unknown", None, "??"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(LICENSES, st.sampled_from(["web", "code"])), max_size=12), st.booleans(), st.booleans()
)
def test_the_table_is_judged_as_its_rows(
    rows: list[tuple[str | None, str]], unknown: bool, only_code: bool
) -> None:
    settings = LicenseSettings(unknown=unknown, sources=["code"] if only_code else [])
    one = LicenseFilter(settings)
    table = pa.table(
        {
            "license": pa.array([row[0] for row in rows], pa.string()),
            "source": pa.array([row[1] for row in rows], pa.string()),
        }
    )
    verdicts = [one.judge({"license": license, "source": source}) for license, source in rows]
    assert one.judge_table(table).tolist() == [one.reasons.index(v.reason) if v else -1 for v in verdicts]
    if only_code:
        assert all(v is None for v, row in zip(verdicts, rows, strict=True) if row[1] == "web")


def test_it_is_off_until_it_is_given() -> None:
    assert not any(one.stage == "license" for one in build_filters(FilterSettings()))
    (one,) = [
        one for one in build_filters(FilterSettings(license=LicenseSettings())) if one.stage == "license"
    ]
    verdict = one.judge({"license": "GPL-3.0"})
    assert verdict and verdict.reason == "license.not_allowed" and one.judge({"license": "MIT"}) is None
