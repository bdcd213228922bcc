// Tokens and how sure the model was of each.

const shown = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ +| +$/g, (blanks) => "␣".repeat(blanks.length)) || "∅";
const percent = (logprob) => { const p = 100 * Math.exp(logprob); return (p >= 99.95 ? "100" : p >= 0.1 ? p.toFixed(1) : p >= 1e-4 ? p.toPrecision(1) : "< 0.0001") + " %"; };

function tokensButton(turn, message) {
  const pressed = button("see-tokens", "Tokens", () => {
    const on = pressed.getAttribute("aria-pressed") !== "true";
    pressed.setAttribute("aria-pressed", on);
    if (on) showTokens(turn.querySelector(".text"), message.tokens);
    else showText(turn, message);
  }, "Each token with its probability");
  pressed.setAttribute("aria-pressed", "false");
  return pressed;
}

function showTokens(text, tokens) {
  text.classList.add("tokens");
  text.replaceChildren(...tokens.map((token, number) => {
    const surprise = -token[1], span = make("span", surprise > 3 ? "p3" : surprise > 1.2 ? "p2" : surprise > 0.35 ? "p1" : "", token[0]);
    span.tabIndex = number ? -1 : 0;    // one stop for the tabulator; arrows go on from there
    span.setAttribute("aria-describedby", "tip");
    for (const event of ["mouseenter", "focus"]) span.addEventListener(event, () => showTip(span, token));
    for (const event of ["mouseleave", "blur"]) span.addEventListener(event, hideTip);
    span.addEventListener("keydown", (event) => walk(event, span));
    return span;
  }));
}

function walk(event, span) {
  const all = span.parentElement.children;
  const next = { ArrowRight: span.nextElementSibling, ArrowLeft: span.previousElementSibling, Home: all[0], End: all[all.length - 1] }[event.key];
  if (!next) return;
  event.preventDefault();
  span.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function showTip(span, [text, logprob, top]) {
  explained = span;
  const rows = top.some(([other]) => other === text) ? top : [[text, logprob], ...top];
  const table = make("table", "");
  for (const [other, value] of rows) {
    const row = table.insertRow();
    row.className = other === text ? "chosen" : "";
    row.append(make("th", "", shown(other)), make("td", "", percent(value)), make("td", "", value.toFixed(2)));
  }
  tip.replaceChildren(table);
  tip.classList.remove("hidden");
  placeTip();
}

function placeTip() {
  if (!explained?.isConnected) return hideTip();
  const at = [...explained.getClientRects()].at(-1) ?? explained.getBoundingClientRect(), { width, height } = tip.getBoundingClientRect();
  const above = at.top - height - 6;
  tip.style.left = Math.max(8, Math.min(at.left, innerWidth - width - 8)) + "px";
  tip.style.top = (above > 4 ? above : at.bottom + 6) + "px";
}

function hideTip() {
  explained = null;
  tip.classList.add("hidden");
}
