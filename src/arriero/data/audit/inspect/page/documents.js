// Lists of documents by what became of them.

const KINDS = [["", "All"], ["kept", "Kept"], ["rejected", "Dropped"], ["near_miss", "Dropped by little"], ["just_kept", "Kept by little"]];
let lastList = "#documents";

async function showDocuments(query, found = null) {
  lastList = location.hash;
  const go = (change) => { location.hash = hash("documents", { ...query, ...change }); };
  const reasons = Object.keys(corpus.report.total.dropped), stages = corpus.report.funnel.map((s) => s.stage);
  const rules = corpus.report.rules.map((r) => r.reason);
  const choices = query.kind === "just_kept" ? rules : query.kind === "kept" ? [] : [...stages, ...reasons];
  const first = found || await ask("documents", query);
  const list = make("ol", { class: "list" }), more = make("p", { class: "bar-row" });
  shown = [];
  const add = (page) => {
    shown.push(...page.documents.map((d) => d.number));
    list.append(...page.documents.map((d) => documentLine(d, query)));
    more.replaceChildren(page.next === null ? "" : make("button", { class: "quiet", type: "button", onclick: async () => add(await ask("documents", { ...query, start: page.next })) }, "More"));
    say(many(shown.length, "document") + " listed");
  };
  const range = query.figure ? `${query.figure.replace(/^[fm]_/, "").replaceAll("_", " ")} ${query.low ? "from " + query.low : ""} ${query.high ? "to " + query.high : ""}` : "";
  view.replaceChildren(
    make("h2", {}, found ? `Found for “${query.text}”` : "Documents"),
    found ? "" : make("div", { class: "bar-row", role: "group", "aria-label": "Which documents" },
      KINDS.map(([kind, label]) => make("button", { class: "quiet", type: "button", "aria-pressed": String((query.kind || "") === kind), onclick: () => go({ kind, reason: "" }) }, label))),
    found ? "" : make("div", { class: "bar-row" },
      choices.length ? choice("Reason", "every reason", choices, query.reason, (reason) => go({ reason })) : "",
      choice("Source", "all sources", Object.keys(corpus.report.sources), query.source, (source) => go({ source })),
      choice("Language", "all languages", Object.keys(corpus.report.languages), query.lang, (lang) => go({ lang })),
      range ? make("button", { class: "quiet", type: "button", title: "Take this condition away", onclick: () => go({ figure: "", low: "", high: "" }) }, range.trim() + " ✕") : ""),
    first.documents.length ? list : make("p", { class: "empty" }, found ? "Nothing was found." : "No document is like that."), more);
  add(first);
}

function documentLine(d, query) {
  const chips = [outcomeChip(d)];
  if (d.value !== null && d.threshold !== null && d.stage) chips.push(make("span", { class: "num" }, `${figure(d.value)} (threshold ${figure(d.threshold)})`));
  if (d.figure !== null) chips.push(make("span", { class: "num" }, `${query.figure.replace(/^[fm]_/, "").replaceAll("_", " ")} ${figure(d.figure)}`));
  return make("li", {}, make("a", { href: hash("document", { number: d.number }), "data-number": d.number },
    make("div", { class: "what" }, make("span", { class: "id" }, d.id), chips, make("span", {}, d.lang || ""), make("span", {}, bytes(d.text_bytes || d.raw_bytes))),
    make("p", { class: d.snippet ? "snippet" : "snippet none" }, d.snippet || "no text")));
}

function outcomeChip(d) {
  const reason = d.stage ? d.reason : "kept";
  return make("span", { class: "chip " + (!d.stage ? "kept" : ["read", "extract"].includes(d.stage) ? "bad" : "dropped") }, reason);
}

async function searchFor(text) {
  view.setAttribute("aria-busy", "true");
  await showDocuments({ text }, await ask("find", { text }));
  view.removeAttribute("aria-busy");
}

function moveInList(step) {
  const links = [...view.querySelectorAll(".list a")], now = links.indexOf(document.activeElement);
  const next = links[now < 0 ? 0 : Math.min(Math.max(now + step, 0), links.length - 1)];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}
