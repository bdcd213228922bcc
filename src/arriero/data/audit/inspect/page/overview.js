// What came in, what was dropped, what was kept.

const STAGES = {
  read: "unreadable", extract: "no text", list: "lists", license: "licence", optout: "opted out", language: "language",
  rules: "rules", pii: "personal data", perplexity: "perplexity", classifier: "classifiers", duplicate: "duplicates", contaminated: "contamination",
};
const stageName = (stage) => STAGES[stage] || stage;

function showOverview() {
  const { report } = corpus, total = report.total, kept = total.kept;
  const about = report.tokens.basis.startsWith("estimated") ? "about " : "";
  view.replaceChildren(
    make("p", { class: "lead" }, `Of ${many(total.in.documents, "record")} (${bytes(total.in.bytes)}), ${many(kept.documents, "document")} were kept: `
      + `${bytes(total.final_bytes || kept.kept_bytes)} of text, ${about}${about ? whole(Number(kept.tokens.toPrecision(3))) : whole(kept.tokens)} tokens.`),
    make("p", { class: "soft small" }, `${corpus.folder} · ${many(corpus.parts, "part")} · tokens ${report.tokens.basis}`),
    report.alarms.length ? make("ul", { class: "alarms", "aria-label": "Alarms" }, report.alarms.map((a) => make("li", {}, a.message))) : "",
    funnel(report), sources(report), rulesTable(report),
    make("div", { class: "two" }, languages(report), edits(report), personal(report), licences(report), clusters(report)));
}

function funnel(report) {
  const all = report.total.in.documents || 1, rows = [];
  const bar = (left, gone) => {
    const one = make("i", { class: "left" }), two = make("i", { class: "gone" });
    one.style.width = `${100 * left / all}%`;
    two.style.width = `${100 * gone / all}%`;
    return make("div", { class: "track", "aria-hidden": "true" }, one, two);
  };
  const line = (label, left, gone, count, more) => make("li", {}, make("div", { class: "step" },
    make("span", { class: "label" }, label), bar(left, gone), make("span", { class: "count" }, count)), more);
  rows.push(line("came in", all, 0, whole(report.total.in.documents)));
  for (const step of report.funnel) {
    const reasons = Object.entries(report.total.dropped).filter(([, sums]) => sums.stage === step.stage);
    rows.push(line(stageName(step.stage), step.in - step.dropped, step.dropped, `− ${whole(step.dropped)}  (${percent(step.dropped / step.in)})`,
      make("ul", { class: "reasons" }, reasons.map(([reason, sums]) => reasonLine(reason, sums, step, all)))));
  }
  rows.push(line("kept", report.total.kept.documents, 0, `${whole(report.total.kept.documents)}  (${percent(report.total.kept.documents / all)})`));
  return make("section", {}, make("h2", {}, "From what came in to what was kept"),
    make("p", { class: "soft small" }, "Every document that was dropped has one reason; the sums close to zero."), make("ol", { class: "funnel" }, rows));
}

function reasonLine(reason, sums, step) {
  const mark = make("i");
  mark.style.width = `${Math.max(.25, 10 * sums.documents / step.dropped)}rem`;
  return make("li", {}, make("a", { href: hash("documents", { kind: "rejected", reason }) },
    make("span", { class: "name" }, mark, make("span", {}, reason)), make("span", { class: "count" }, `${whole(sums.documents)} · ${bytes(sums.text_bytes || sums.bytes)}`)));
}

const share = (value) => {
  const inner = make("i");
  inner.style.width = `${100 * value}%`;
  return make("span", { class: "share", "aria-hidden": "true" }, inner);
};

function sources(report) {
  const rows = Object.entries(report.sources).sort((a, b) => b[1].in.documents - a[1].in.documents).map(([name, s]) => {
    const part = s.kept.documents / (s.in.documents || 1), main = Object.entries(s.dropped)[0];
    return [make("a", { href: hash("documents", { source: name }) }, name), whole(s.in.documents), bytes(s.in.bytes), whole(s.kept.documents),
      make("span", { class: "keep" }, share(part), " ", percent(part)), bytes(s.kept.kept_bytes), whole(s.kept.tokens),
      main ? make("a", { href: hash("documents", { kind: "rejected", source: name, reason: main[0] }) }, `${main[0]} (${whole(main[1].documents)})`) : "nothing dropped"];
  });
  return make("section", {}, make("h2", {}, "Sources"), table(["source", "#records", "#bytes", "#kept", "share kept", "#text kept", "#tokens", "most dropped for"], rows));
}

function rulesTable(report) {
  if (!report.rules.length) return "";
  const rows = report.rules.filter((r) => r.alone || r.first).sort((a, b) => b.alone - a.alone).map((r) => [
    make("a", { href: hash("figures", { figure: r.columns.length === 1 ? r.columns[0] : r.reason, reason: r.reason }) }, r.reason),
    make("span", { class: "keep" }, `${r.side === "min" ? "at least" : "at most"} ${figure(r.threshold)}`), whole(r.alone), percent(r.alone / (r.judged || 1)), whole(r.only),
    r.first ? make("a", { href: hash("documents", { kind: "rejected", reason: r.reason }) }, whole(r.first)) : "0"]);
  return make("section", {}, make("h2", {}, "What each rule does"),
    make("p", { class: "soft small" }, "Alone: documents that break it. Only: documents that break it and no other. In turn: dropped for it, as the rules are tried one after the other."),
    rows.length ? table(["rule", "threshold", "#alone", "#share", "#only", "#in turn"], rows) : make("p", {}, "No document breaks a rule."));
}

function languages(report) {
  const all = report.total.in.text_bytes || 1, keptAll = report.total.kept.kept_bytes || 1;
  const rows = Object.entries(report.languages).sort((a, b) => b[1].in.text_bytes - a[1].in.text_bytes).slice(0, 20).map(([name, l]) => [
    make("a", { href: hash("documents", { lang: name }) }, name), whole(l.in.documents), percent(l.in.text_bytes / all), whole(l.kept.documents), percent(l.kept.kept_bytes / keptAll)]);
  return make("section", {}, make("h2", {}, "Languages"), table(["language", "#came in", "#of the text", "#kept", "#of the text"], rows));
}

function edits(report) {
  const rows = Object.entries(report.edits).map(([reason, e]) => [reason, whole(e.edits), whole(e.characters)]);
  return rows.length ? make("section", {}, make("h2", {}, "Edits in kept texts"), table(["reason", "#edits", "#characters less"], rows)) : "";
}

function personal(report) {
  const rows = Object.entries(report.pii).map(([kind, count]) => [kind, whole(count)]);
  return rows.length ? make("section", {}, make("h2", {}, "Personal data masked"), table(["kind", "#times"], rows)) : "";
}

function licences(report) {
  const rows = report.licenses.slice(0, 20).map((l) => [l.license, l.evidence, whole(l.documents)]);
  return rows.length ? make("section", {}, make("h2", {}, "Licences of what was kept"), table(["licence", "evidence", "#documents"], rows)) : "";
}

function clusters(report) {
  if (!report.clusters.clusters) return "";
  const rows = report.clusters.largest.map((c) => [make("a", { href: hash("cluster", { cluster: c.cluster }) }, `cluster ${c.cluster}`), whole(c.size)]);
  return make("section", {}, make("h2", {}, "Clusters of duplicates"),
    make("p", { class: "soft small" }, `${many(report.clusters.clusters, "cluster")}, ${many(report.clusters.dropped, "document")} dropped from them.`), table(["largest", "#documents"], rows));
}
