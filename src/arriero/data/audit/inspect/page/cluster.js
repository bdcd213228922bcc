// The documents of a cluster side by side; what the survivor does not have is marked.

async function showCluster(query) {
  const c = await ask("cluster", { cluster: query.cluster }), survivor = c.members[0];
  const known = new Set(sentences(survivor.text).map((s) => s.trim()));
  view.replaceChildren(make("div", { class: "doc-head" }, make("a", { class: "quiet", href: lastList }, "← List"), make("h2", {}, `Cluster ${c.cluster}: ${many(c.size, "document")}`)),
    make("p", { class: "why soft" }, survivor.step ? "The one that stays is not there. Marked: what the first one does not have." : "The first one stays. In the others, what it does not have is marked."
      + (c.members.length < c.size ? ` ${whole(c.members.length)} of them are shown.` : "")),
    make("div", { class: "members" }, c.members.map((m, i) => pane(
      make("a", { href: hash("document", { number: m.number }) }, m.id), `${m.step ? m.step + (m.value === null ? "" : ` ${figure(m.value)}`) : "stays"} · ${m.source} · ${bytes(m.bytes)}`,
      make("div", { class: "body", tabindex: 0 }, i ? sentences(m.text).map((s) => !s.trim() || known.has(s.trim()) ? s : make("mark", {}, s)) : m.text)))));
}

const sentences = (text) => text.match(/[^\n.!?。]*[\n.!?。]+\s*|[^\n.!?。]+$/g) || [];
