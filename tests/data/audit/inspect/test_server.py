"""The page's server: who may ask, what is answered, and figures that agree with the ledger."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from tests.data.audit.conftest import XSS, Build, Builder, documents

from arriero.data.audit.curated import CuratedCorpus
from arriero.data.audit.inspect.server import InspectServer
from arriero.data.audit.rethreshold import Rethreshold
from arriero.data.filters import FilterSettings
from arriero.data.filters.rules import Rules
from arriero.one_page import load_page


def get(
    server: InspectServer, path: str, *, key: str | None = None, host: str | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    if key != "":
        connection.putheader("Authorization", f"Bearer {server.key if key is None else key}")
    connection.endheaders()
    reply = connection.getresponse()
    found = (reply.status, dict(reply.getheaders()), reply.read().decode())
    connection.close()
    return found


def ask(server: InspectServer, name: str, **query: Any) -> Any:
    status, _, body = get(server, f"/api/{name}?{urlencode(query)}")
    assert status == 200, body
    return json.loads(body)


def test_only_this_machine_with_the_key(server: InspectServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    for key in ("", "wrong", "ü"):
        status, _, body = get(server, "/api/overview", key=key and key.encode().decode("latin-1"))
        assert status == 401
        assert "key" in json.loads(body)["error"]
    assert get(server, "/api/overview", host="evil.example.org")[0] == 403
    assert get(server, "/", host=f"evil.example.org:{server.server_port}")[0] == 403
    assert get(server, "/api/overview")[0] == 200
    assert server.key in server.address.partition("#")[2]
    assert get(server, "/", key="")[0] == 200


def test_nothing_but_its_own_script_may_run(server: InspectServer) -> None:
    _, headers, page = get(server, "/", key="")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http:" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert page == load_page("arriero.data.audit.inspect")[0]
    for outside in ("http://", "https://", "innerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert outside not in page.replace("http://www.w3.org/2000/svg", ""), outside


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/nothing", 404, "there is no /api/nothing"),
        ("/etc/passwd", 404, "there is no"),
        ("/api/../x", 404, "there is no"),
        ("/api/document?number=9999", 400, "there is no number 9999"),
        ("/api/document?number=-1", 400, "there is no number -1"),
        ("/api/document?number=abc", 400, "whole number"),
        ("/api/document", 400, "whole number"),
        ("/api/histogram?figure=f_wrods", 400, "did you mean 'f_words'"),
        ("/api/moved?figure=f_words&threshold=nan", 400, "threshold should be a number"),
        ("/api/documents?kind=odd", 400, "kind should be"),
        ("/api/documents?low=a", 400, "should be numbers"),
        ("/api/cluster?cluster=77", 400, "there is no cluster 77"),
        ("/api/find?text=", 400, "empty"),
    ],
)
def test_bad_questions_are_told(server: InspectServer, path: str, status: int, message: str) -> None:
    found, _, body = get(server, path)
    assert found == status, body
    assert message in json.loads(body)["error"]


def test_overview(server: InspectServer, built: Builder) -> None:
    found = ask(server, "overview")
    assert found["records"] == len(built.rows)
    assert found["report"]["total"]["in"]["documents"] == len(built.rows)
    reasons = {rule["reason"]: rule for rule in found["report"]["rules"]}
    words = reasons["gopher.min_words"]
    few = sum(row.get("f_plain_words", 1e9) < 50 for row in built.rows)
    assert words["alone"] == few
    assert words["first"] == sum(row["reason"] == "gopher.min_words" for row in built.rows)
    assert words["only"] <= words["first"] <= words["alone"]
    assert found["figures"][0]["rules"]
    assert "gopher.max_symbol_ratio" in {figure["name"] for figure in found["figures"]}


@pytest.mark.parametrize(
    "figure",
    [
        "f_plain_words",
        "f_duplicate_lines",
        "f_words",
        "gopher.max_symbol_ratio",
        "lang_score",
        "m_perplexity",
    ],
)
def test_a_histogram_holds_every_document(server: InspectServer, built: Builder, figure: str) -> None:
    found = ask(server, "histogram", figure=figure)
    assert sum(found["kept"]) + sum(found["by_this"]) + sum(found["by_others"]) + found["missing"] == len(
        built.rows
    )
    assert len(found["edges"]) == len(found["kept"]) + 1
    assert np.all(np.diff(found["edges"]) > 0)
    if figure != "m_perplexity":
        kept = ask(server, "overview")["report"]["total"]["kept"]["documents"]
        assert sum(found["kept"]) == kept
    for rule in found["rules"]:
        assert found["edges"][0] <= rule["threshold"]
    web = ask(server, "histogram", figure=figure, source="web")
    assert sum(web["kept"]) <= sum(found["kept"])


@pytest.mark.parametrize("value", [0, 20, 49, 50, 51, 80, 1000])
def test_what_a_threshold_moves_is_what_rethreshold_does(
    server: InspectServer, built: Builder, value: int
) -> None:
    found = ask(
        server, "moved", figure="f_plain_words", reason="gopher.min_words", side="min", threshold=value
    )
    corpus = CuratedCorpus(built.folder)
    again = Rethreshold(corpus, FilterSettings(rules=Rules(min_words=float(value))))
    change = again.preview()
    assert found["newly_kept"] == change.newly_kept
    gone = sum(row.get("f_plain_words", 0) < value and not row["stage"] and not one.dropped
               for row, one in zip(built.rows, documents(), strict=True))  # fmt: skip
    assert found["newly_dropped"] == gone
    assert found["exact"]


def test_a_rule_that_is_not_there_yet(server: InspectServer, built: Builder) -> None:
    values = sorted(
        row["f_words"]
        for row, one in zip(built.rows, documents(), strict=True)
        if not row["stage"] and not one.dropped
    )
    middle = values[len(values) // 2]
    least = ask(server, "moved", figure="f_words", side="min", threshold=middle)
    assert least["newly_dropped"] == sum(v < middle for v in values)
    assert least["newly_kept"] == 0
    most = ask(server, "moved", figure="f_words", side="max", threshold=middle)
    assert most["newly_dropped"] == sum(v > middle for v in values)


def test_lists_in_pages(server: InspectServer, built: Builder) -> None:
    first = ask(server, "documents")
    second = ask(server, "documents", start=first["next"])
    numbers = [d["number"] for d in first["documents"] + second["documents"]]
    assert numbers == list(range(len(built.rows)))
    assert second["next"] is None
    short = ask(server, "documents", kind="rejected", reason="gopher.min_words")["documents"]
    assert {d["id"] for d in short} == {
        row["id"] for row in built.rows if row["reason"] == "gopher.min_words"
    }
    assert all(d["value"] < 50 and d["snippet"] for d in short)
    assert {
        d["reason"] for d in ask(server, "documents", kind="rejected", reason="duplicate")["documents"]
    } == {"duplicate.exact", "duplicate.near"}
    german = ask(server, "documents", lang="de", source="web")["documents"]
    assert {d["lang"] for d in german} == {"de"}
    between = ask(server, "documents", figure="f_plain_words", low=60, high=100)["documents"]
    assert between
    assert all(60 <= d["figure"] <= 100 for d in between)
    near = ask(server, "documents", kind="near_miss")["documents"]
    assert {d["id"] for d in near} == {row["id"] for row in built.rows if row.get("near_miss")}


def test_a_document(server: InspectServer) -> None:
    found = ask(server, "document", number=3)
    assert "someone@" not in found["before"]
    assert found["text"].startswith("Write to <email>")
    assert [edit["reason"] for edit in found["edits"]] == ["pii.email", "lines.policy"]
    facts = {fact["name"]: fact["value"] for fact in found["facts"]}
    assert facts["f_characters"] == len(found["text"])
    assert facts["m_perplexity"] is None
    hostile = ask(server, "document", number=2)
    assert XSS in hostile["text"]
    refused = next(n for n, one in enumerate(documents()) if one.refused)
    assert ask(server, "document", number=refused)["text"] is None


def test_a_cluster(server: InspectServer) -> None:
    found = ask(server, "cluster", cluster=4)
    assert found["members"][0]["id"] == "web:4"
    assert found["size"] == len(found["members"]) == 3
    assert [member["step"] for member in found["members"]] == [None, "duplicate.exact", "duplicate.near"]


def test_finding(server: InspectServer) -> None:
    assert [d["id"] for d in ask(server, "find", text="web:7")["documents"]] == ["web:7"]
    line = documents()[9].text.split("\n")[0]
    assert [d["number"] for d in ask(server, "find", text=line)["documents"]] == [9]


def test_a_corpus_without_a_manifest(build: Build) -> None:
    builder = build(documents()[:5])
    (builder.folder / "manifest.json").unlink()
    with InspectServer(CuratedCorpus(builder.folder)) as bare:
        assert bare.inspection.answer("overview", {})["report"]["rules"] == []
        assert bare.inspection.answer("histogram", {"figure": "f_words"})["rules"] == []
        assert bare.inspection.answer("documents", {"kind": "just_kept"})["documents"] == []
