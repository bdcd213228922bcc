// A histogram of one figure, with the threshold as a line that can be moved.

const LEFT = 44, BOTTOM = 30, TOP = 26;
let chosenFigure = "", W = 900, H = 300;

async function showFigures(query) {
  const figures = corpus.figures;
  chosenFigure = query.figure || chosenFigure || (figures[0] && figures[0].name) || "";
  if (!chosenFigure) return view.replaceChildren(make("p", { class: "empty" }, "This corpus has no figures."));
  const data = await ask("histogram", { figure: chosenFigure, source: query.source, lang: query.lang });
  const rule = data.rules.find((r) => r.reason === query.reason) || data.rules[0] || null;
  const go = (change) => { location.hash = hash("figures", { figure: chosenFigure, source: query.source, lang: query.lang, reason: query.reason, ...change }); };
  view.replaceChildren(make("div", { class: "figures" }, figureList(figures, query), make("div", {},
    figureChoice(figures, (figure) => go({ figure, reason: "" })),
    make("h2", {}, data.label.replaceAll("_", " ")), make("p", { class: "soft" }, data.doc),
    make("div", { class: "bar-row" },
      choice("Source", "all sources", Object.keys(corpus.report.sources), query.source, (source) => go({ source })),
      choice("Language", "all languages", Object.keys(corpus.report.languages), query.lang, (lang) => go({ lang })),
      data.rules.length > 1 ? choice("Rule", null, data.rules.map((r) => r.reason), rule.reason, (reason) => go({ reason })) : ""),
    chart(data, rule))));
  view.querySelector(".figure-list [aria-current]")?.scrollIntoView({ block: "nearest" });
}

function choice(label, none, values, current, changed) {
  const select = make("select", { "aria-label": label, onchange: () => changed(select.value) },
    none ? make("option", { value: "" }, none) : "", values.map((v) => make("option", { value: v, selected: v === current }, v)));
  return select;
}

function figureList(figures, query) {
  const filter = make("input", { class: "filter", type: "search", placeholder: "Filter", "aria-label": "Filter figures" });
  const link = (f) => make("a", { href: hash("figures", { figure: f.name, source: query.source, lang: query.lang }), "aria-current": f.name === chosenFigure ? "true" : null, title: f.doc }, f.label.replaceAll("_", " "));
  const ruled = figures.filter((f) => f.rules.length), others = figures.filter((f) => !f.rules.length);
  const box = make("nav", { class: "figure-list", "aria-label": "Figures" }, filter,
    ruled.length ? make("h3", {}, "With a rule") : "", ruled.map(link), make("h3", {}, ruled.length ? "Others" : "Figures"), others.map(link));
  filter.addEventListener("input", () => {
    for (const a of box.querySelectorAll("a")) a.classList.toggle("hidden", !a.textContent.includes(filter.value.trim().toLowerCase()));
  });
  return box;
}

function figureChoice(figures, changed) {
  const select = make("select", { id: "figure-choice", "aria-label": "Figure", onchange: () => changed(select.value) },
    figures.map((f) => make("option", { value: f.name, selected: f.name === chosenFigure }, f.label.replaceAll("_", " ") + (f.rules.length ? " · rule" : ""))));
  return select;
}

function scaleOf(edges) {
  const bins = edges.length - 1, span = (W - LEFT) / bins;
  const x = (value) => {
    if (value <= edges[0]) return LEFT;
    if (value >= edges[bins]) return W;
    const i = edges.findIndex((e) => e > value) - 1;
    return LEFT + span * (i + (value - edges[i]) / (edges[i + 1] - edges[i]));
  };
  const at = (place) => {
    const n = Math.min(Math.max((place - LEFT) / span, 0), bins), i = Math.min(Math.floor(n), bins - 1);
    return edges[i] + (n - i) * (edges[i + 1] - edges[i]);
  };
  return { x, at, span };
}

function ticks(data) {
  const low = data.edges[0], high = data.edges.at(-1), found = [];
  if (data.log) {
    for (let p = 0; p < 16; p++) for (const m of [1, 3]) if (m * 10 ** p >= low && m * 10 ** p <= high) found.push(m * 10 ** p);
    return found;
  }
  const rough = (high - low) / 7, power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(Number(v.toPrecision(6)));
  return found;
}

function chart(data, rule) {
  [W, H] = innerWidth < 740 ? [420, 280] : [900, 300];
  const { edges } = data, scale = scaleOf(edges), bins = data.kept.length;
  const most = Math.max(1, ...data.kept.map((k, i) => k + data.by_this[i] + data.by_others[i])), up = (count) => (H - TOP - BOTTOM) * count / most;
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": `Histogram of ${data.label}` });
  for (let i = 0; i < bins; i++) {
    let base = H - BOTTOM;
    const parts = [["k", data.kept[i]], ["d", data.by_this[i]], ["o", data.by_others[i]]];
    const title = `${figure(edges[i])} to ${figure(edges[i + 1])}: ${whole(data.kept[i])} kept, ${whole(data.by_this[i])} dropped by this rule, ${whole(data.by_others[i])} dropped otherwise`;
    for (const [name, count] of parts) {
      if (!count) continue;
      const tall = Math.max(up(count), .75);
      base -= tall;
      picture.append(svg("rect", { class: name, x: LEFT + scale.span * i + .5, y: base, width: Math.max(scale.span - 1, 1), height: tall },
        Object.assign(svg("title"), { textContent: title })));
    }
  }
  picture.append(svg("line", { class: "axis", x1: LEFT, x2: W, y1: H - BOTTOM, y2: H - BOTTOM }));
  let last = -99;
  for (const tick of ticks(data)) {
    const x = scale.x(tick);
    if (x - last < 52 || x > W - 8) continue;
    picture.append(svg("text", { x, y: H - 9, "text-anchor": x < LEFT + 12 ? "start" : "middle" }, figure(tick)));
    last = x;
  }
  picture.append(svg("text", { x: LEFT - 6, y: TOP + 10, "text-anchor": "end" }, compact(most)), svg("text", { x: LEFT - 6, y: H - BOTTOM, "text-anchor": "end" }, "0"));
  const told = make("p", { class: "moved", "aria-live": "polite" }), links = make("p", { class: "bar-row" });
  const total = (list) => whole(list.reduce((a, b) => a + b, 0));
  const swatch = (name, text) => make("li", {}, make("i", { class: name }), text);
  const legend = make("ul", { class: "legend" }, swatch("k", `kept (${total(data.kept)})`),
    data.rules.length ? swatch("d", `dropped by ${data.rules.length > 1 ? "rules on this figure" : rule.reason} (${total(data.by_this)})`) : "",
    swatch("o", `dropped otherwise (${total(data.by_others)})`), data.missing ? make("li", {}, `not measured: ${whole(data.missing)}`) : "");
  const side = make("div", { class: "bar-row" });
  threshold(data, rule, scale, picture, told, links, side);
  return make("div", {}, legend, make("div", { class: "chart" }, picture), side, told, links);
}

const compact = (count) => count >= 1e4 ? new Intl.NumberFormat("en", { notation: "compact" }).format(count) : whole(count);

function threshold(data, rule, scale, picture, told, links, side) {
  const { edges } = data, low = edges[0], high = edges.at(-1);
  let kind = rule ? rule.side : "min", value = rule ? rule.threshold : null, asked = 0;
  const steps = data.log || high - low > 40 ? 1 : (high - low) / 400;
  const shade = svg("rect", { class: "shade", y: TOP, height: H - TOP - BOTTOM });
  const line = svg("line", { class: "line", y1: TOP - 4, y2: H - BOTTOM }), grip = svg("circle", { class: "grip", r: 7, cy: TOP - 4 });
  const label = svg("text", { class: "at", y: TOP - 10 }), grab = svg("rect", { class: "grab", y: 0, height: H, width: 36 });
  const handle = svg("g", { class: "handle", tabindex: 0, role: "slider", "aria-label": `threshold of ${data.label}`, "aria-valuemin": low, "aria-valuemax": high }, line, grip, label, grab);
  const tidy = (v) => { const t = steps === 1 ? Math.round(v) : Number(v.toPrecision(3)); return Math.min(Math.max(t, low), high); };
  const draw = () => {
    const x = scale.x(value);
    for (const end of ["x1", "x2"]) line.setAttribute(end, x);
    grip.setAttribute("cx", x);
    grab.setAttribute("x", x - 18);
    label.setAttribute("x", x > W - 120 ? x - 12 : x + 12);
    label.setAttribute("text-anchor", x > W - 120 ? "end" : "start");
    label.textContent = `${kind === "min" ? "at least" : "at most"} ${figure(value)}`;
    shade.setAttribute("x", kind === "min" ? LEFT : x);
    shade.setAttribute("width", Math.max(kind === "min" ? x - LEFT : W - x, 0));
    handle.setAttribute("aria-valuenow", value);
    handle.setAttribute("aria-valuetext", label.textContent);
  };
  const count = async () => {
    const turn = ++asked, query = { figure: data.name, reason: rule?.reason, side: kind, threshold: value };
    const moved = await ask("moved", query).catch((error) => ({ error: error.message }));
    if (turn !== asked) return;
    if (moved.error) return told.replaceChildren(make("span", { class: "problem" }, moved.error));
    const about = moved.exact ? "" : "about ", same = rule && value === rule.threshold;
    told.replaceChildren(...(same ? [`The rule ${rule.reason} keeps documents with ${kind === "min" ? "at least" : "at most"} ${figure(value)}. Move the line to see what another threshold would do.`]
      : [rule ? `${figure(value)} instead of ${figure(rule.threshold)}: ` : `${kind === "min" ? "At least" : "At most"} ${figure(value)}: `,
        make("b", {}, about + many(moved.newly_kept, "document")), " would come in, ", make("b", {}, about + many(moved.newly_dropped, "document")), " would fall out",
        make("span", { class: "soft" }, ` of ${whole(moved.kept)} kept.`)]));
    links.replaceChildren(...(same ? [] : [
      moved.newly_kept && rule ? make("a", { class: "quiet", href: hash("documents", { kind: "rejected", reason: rule.reason, figure: data.name, ...(kind === "min" ? { low: value } : { high: value }) }) }, "See those that would come in") : "",
      moved.newly_dropped ? make("a", { class: "quiet", href: hash("documents", { kind: "kept", figure: data.name, ...(kind === "min" ? { high: value } : { low: value }) }) }, "See those that would fall out") : "",
      rule ? make("button", { class: "quiet", type: "button", onclick: () => set(rule.threshold) }, "Put it back") : ""]));
  };
  const set = (v) => { value = v; if (!handle.isConnected) picture.append(shade, handle); draw(); count(); };
  const place = (event) => { const box = picture.getBoundingClientRect(); return tidy(scale.at((event.clientX - box.left) * W / box.width)); };
  grab.addEventListener("pointerdown", (event) => {
    grab.setPointerCapture(event.pointerId);
    grab.onpointermove = (move) => set(place(move));
    event.preventDefault();
    handle.focus();
  });
  for (const name of ["pointerup", "pointercancel"]) grab.addEventListener(name, () => { grab.onpointermove = null; });
  handle.addEventListener("keydown", (event) => {
    const sign = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!sign) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1, unit = data.log ? Math.max(1, Math.round(Math.abs(value) * .01)) : steps;
    set(tidy(value + sign * far * unit));
  });
  if (rule) {
    picture.append(svg("line", { class: "was", x1: scale.x(rule.threshold), x2: scale.x(rule.threshold), y1: TOP, y2: H - BOTTOM }));
    set(rule.threshold);
  } else {
    const start = (wanted) => () => { kind = wanted; set(value ?? tidy(scale.at(LEFT + (W - LEFT) * (wanted === "min" ? .25 : .75)))); };
    side.append(make("span", { class: "soft small" }, "No rule reads this figure. What would one do?"), make("button", { class: "quiet", type: "button", onclick: start("min") }, "At least …"), make("button", { class: "quiet", type: "button", onclick: start("max") }, "At most …"));
  }
}
