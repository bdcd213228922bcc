// Which view the address asks for, and the keys.

const VIEWS = { overview: showOverview, figures: showFigures, documents: showDocuments, document: showDocument, cluster: showCluster };

async function route() {
  const [name, query] = location.hash.slice(1).split("?"), wanted = VIEWS[name] ? name : "overview";
  for (const a of document.querySelectorAll("header nav a")) {
    const own = a.hash.slice(1), on = own === wanted || (own === "documents" && ["document", "cluster"].includes(wanted));
    if (on) a.setAttribute("aria-current", "page"); else a.removeAttribute("aria-current");
  }
  const turn = route.turn = (route.turn || 0) + 1;
  view.setAttribute("aria-busy", "true");
  try {
    corpus ||= await ask("overview");
    find("corpus").textContent = corpus.name;
    document.title = `${corpus.name} · ${wanted}`;
    await VIEWS[wanted](Object.fromEntries(new URLSearchParams(query || "")));
    if (turn === route.turn && route.last !== wanted) view.scrollTop = 0;
    route.last = wanted === "document" ? null : wanted;
  } catch (error) {
    view.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
  }
  view.removeAttribute("aria-busy");
}

const HANDS = {
  1: () => { location.hash = "#overview"; }, 2: () => { location.hash = "#figures"; }, 3: () => { location.hash = "#documents"; },
  "/": () => find("wanted").focus(), "?": () => find("keys").showModal(),
  j: () => document.querySelector(".doc-head .moves") ? moveDocument(1) : moveInList(1),
  k: () => document.querySelector(".doc-head .moves") ? moveDocument(-1) : moveInList(-1),
  n: () => moveEdit(1), p: () => moveEdit(-1), r: () => showRaw(),
  Escape: () => { if (document.querySelector(".doc-head")) location.hash = lastList; },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("keys").open) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const hand = HANDS[event.key];
  if (!hand) return;
  event.preventDefault();
  hand();
});
find("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = find("wanted").value.trim();
  if (!text) return;
  searchFor(text).catch((error) => view.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message)));
});
addEventListener("hashchange", route);
takeKey();
route();
