// One document: before and after with the edits marked, facts beside their thresholds, ledger row, raw record.

let current = null;

async function showDocument(query) {
  const d = await ask("document", { number: query.number });
  current = d;
  view.replaceChildren(documentHead(d), why(d), texts(d),
    d.facts.length ? make("div", { class: "two" }, ledger(d), facts(d)) : ledger(d), make("section", { id: "raw" }));
  rawOffer(d);
}

function documentHead(d) {
  const place = shown.indexOf(d.number), step = (by, text, label) => make("button", { class: "quiet", type: "button", "aria-label": label, disabled: neighbour(by) === null, onclick: () => moveDocument(by) }, text);
  const chip = make("span", { class: "chip " + (d.outcome === "kept" ? "kept" : ["read", "extract"].includes(d.ledger.stage) ? "bad" : "dropped") }, d.outcome);
  return make("div", { class: "doc-head" }, make("a", { class: "quiet", href: lastList }, "← List"), make("h2", {}, d.ledger.id), chip,
    make("span", { class: "moves" }, step(-1, "↑", "Previous document (k)"), step(1, "↓", "Next document (j)"),
      place >= 0 ? make("span", { class: "soft small num" }, ` ${place + 1} of ${shown.length}`) : ""));
}

function neighbour(by) {
  const place = shown.indexOf(current.number);
  if (place >= 0) return shown[place + by] ?? null;
  const next = current.number + by;
  return next >= 0 && next < corpus.records ? next : null;
}

function moveDocument(by) {
  const next = neighbour(by);
  if (next !== null) location.hash = hash("document", { number: next });
}

function why(d) {
  const l = d.ledger, lines = [];
  if (d.decision) {
    lines.push(`Dropped by ${d.decision.step}` + (d.decision.value !== null ? `: ${figure(d.decision.value)}, and ${figure(d.decision.threshold)} is enough. ` : ". "));
    if (d.survivor !== null) lines.push(make("a", { href: hash("document", { number: d.survivor }) }, `${d.decision.survivor} stays in its place`), " ");
    if (d.decision.cluster !== null) lines.push("· ", make("a", { href: hash("cluster", { cluster: d.decision.cluster }) }, `see the cluster of ${whole(d.decision.cluster_size)} side by side`));
  } else if (l.stage) {
    lines.push(`Dropped at ${stageName(l.stage)}: ${l.reason}`);
    if (l.value !== null) lines.push(`, ${figure(l.value)} where the threshold is ${figure(l.threshold)}`, l.near_miss ? " (by little)." : ".");
  } else lines.push("Kept by every rule and step.");
  if (d.meta?.detail) lines.push(" ", d.meta.detail);
  return make("p", { class: "why" }, lines);
}

function marked(text, spans) {
  const points = Array.from(text), parts = [];      // offsets count characters, not UTF-16 units
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start < at || span.start > points.length) continue;
    parts.push(points.slice(at, span.start).join(""));
    const inner = points.slice(span.start, span.end).join("");
    if (inner) parts.push(make(span.tag || "del", { title: span.reason, class: span.tag ? null : "edit" }, inner));
    if (span.replacement) parts.push(make("ins", { title: span.reason, class: inner ? null : "edit" }, span.replacement));
    at = span.end;
  }
  parts.push(points.slice(at).join(""));
  return parts;
}

// What the edits put in, where it stands in the text after them; nothing when blank space was tidied up as well.
function putIn(d) {
  const before = Array.from(d.before), spans = [];
  let text = "", at = 0, length = 0;
  for (const edit of [...d.edits].sort((a, b) => a.start - b.start)) {
    const between = before.slice(at, edit.start), put = Array.from(edit.replacement);
    length += between.length;
    if (put.length) spans.push({ start: length, end: length + put.length, reason: edit.reason, tag: "ins" });
    text += between.join("") + edit.replacement;
    length += put.length;
    at = edit.end;
  }
  return text + before.slice(at).join("") === d.text ? spans : [];
}

function pane(title, note, body) {
  return make("section", { class: "pane" }, make("h3", {}, title, make("span", {}, note)), body);
}

function texts(d) {
  if (d.text === null) return make("p", { class: "soft" }, "This record gave no text. Its raw bytes are below.");
  const changed = d.edits.length || d.before !== d.text, cut = d.cuts.length;
  const reasons = (spans) => Object.entries(spans.reduce((all, s) => ({ ...all, [s.reason]: (all[s.reason] || 0) + 1 }), {})).map(([r, n]) => n > 1 ? `${r} × ${n}` : r).join(", ");
  const after = pane(changed ? "After" : "Text", cut ? `global steps cut: ${reasons(d.cuts)}` : `${bytes(d.ledger.kept_bytes)}`, make("div", { class: "body", tabindex: 0 }, marked(d.text, [...d.cuts, ...(changed ? putIn(d) : [])])));
  const before = changed && pane("Before", d.edits.length ? `${many(d.edits.length, "edit")}: ${reasons(d.edits)}` : `${bytes(d.ledger.text_bytes)}`, make("div", { class: "body", tabindex: 0 }, marked(d.before, d.edits)));
  const box = make("div", { class: changed ? "texts" : "texts one" }, before || "", after);
  return d.shortened ? make("div", {}, make("p", { class: "soft small" }, "Only the first 200,000 characters are shown."), box) : box;
}

function moveEdit(step) {
  const all = [...view.querySelectorAll("del, ins.edit")], now = all.findIndex((e) => e.classList.contains("now"));
  if (!all.length) return;
  const next = all[(now + step + all.length) % all.length];
  all.forEach((e) => e.classList.toggle("now", e === next));
  next.scrollIntoView({ block: "center" });
  say(`${next.title}: ${next.textContent}`);
}

function ledger(d) {
  const l = d.ledger, box = make("dl", { class: "record" });
  const row = (name, value) => value !== null && value !== undefined && value !== "" && box.append(make("dt", {}, name), make("dd", {}, value));
  row("source", l.source);
  row("file", l.file);
  row("bytes", `${whole(l.offset)} to ${whole(l.offset + l.length)}${l.in_content ? " of the decompressed content" : ""}`);
  row("address", l.url);
  row("date", l.date);
  row("licence", [l.license, l.license_evidence].filter(Boolean).join(" · "));
  row("language", l.lang && (l.lang_score === null ? l.lang : `${l.lang} (${figure(l.lang_score)})`));
  row("extractor", l.extractor);
  row("size", `record ${bytes(l.raw_bytes)} → text ${bytes(l.text_bytes)} → after edits ${bytes(l.kept_bytes)}`);
  row("personal data", d.pii.map((p) => `${p.kind} × ${p.count}`).join(", "));
  row("digest", d.digest && make("span", { class: "mono" }, d.digest));
  row("record", `${d.part}, row ${whole(d.row)}; number ${whole(d.number)}`);
  for (const [name, value] of Object.entries(d.meta && typeof d.meta === "object" ? d.meta : {})) if (name !== "detail") row(name, typeof value === "string" ? value : JSON.stringify(value));
  return make("section", {}, make("h2", {}, "Ledger"), box);
}

function facts(d) {
  const limits = Object.fromEntries(corpus.figures.map((f) => [f.name, f.rules]));
  const breaks = (f, r) => f.value !== null && (r.side === "min" ? f.value < r.threshold : f.value > r.threshold);
  const row = (f) => {
    const rules = limits[f.name] || [];
    return { class: rules.some((r) => breaks(f, r)) ? "broken" : null, cells: [
      make("a", { href: hash("figures", { figure: f.name }), title: f.doc }, f.label.replaceAll("_", " ")), figure(f.value),
      make("span", { class: "soft" }, rules.map((r) => `${r.side === "min" ? "at least" : "at most"} ${figure(r.threshold)}`).join(", "))] };
  };
  const ruled = d.facts.filter((f) => limits[f.name]?.length), others = d.facts.filter((f) => !limits[f.name]?.length);
  return make("section", {}, make("h2", {}, "Facts"), ruled.length ? table(["fact", "#value", "rule"], ruled.map(row), { class: "facts" }) : "",
    make("details", { open: !ruled.length }, make("summary", { class: "soft" }, `${others.length} without a rule`), table(["fact", "#value", "rule"], others.map(row), { class: "facts" })));
}

function rawOffer(d) {
  const chip = (raw) => make("span", { class: "chip " + ({ matches: "kept", changed: "bad", gone: "bad" }[raw.state] || "") }, raw.state);
  find("raw").replaceChildren(make("h2", {}, "Raw record"), make("p", {}, chip(d.raw), " ", d.raw.why + ".", d.raw.path ? make("span", { class: "soft" }, ` ${d.raw.path}`) : ""),
    d.raw.bytes !== null ? make("button", { class: "quiet", type: "button", onclick: () => showRaw() }, `Show its ${bytes(d.raw.bytes)}`) : "");
}

async function showRaw() {
  if (!current || current.raw.bytes === null) return;
  const raw = await ask("raw", { number: current.number });
  const body = make("pre", { class: "body raw", tabindex: 0 }, raw.content);
  find("raw").querySelector("button, .pane")?.replaceWith(pane("Bytes of the raw file", raw.shortened ? "the first 300 kB, as text" : "as text", body));
  body.focus();
  body.scrollIntoView({ block: "nearest" });
}
