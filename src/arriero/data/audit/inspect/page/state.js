"use strict";
const find = (id) => document.getElementById(id);
const view = find("view");
let key = "", corpus = null, shown = [];      // shown: numbers of the documents of the last list, in order

function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

async function ask(name, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  let reply;
  try {
    reply = await fetch(`api/${name}?${new URLSearchParams(given)}`, { headers: { Authorization: "Bearer " + key } });
  } catch {
    throw new Error("The server does not answer. Is `arriero data inspect` still running?");
  }
  if (reply.status === 401) throw new Error("This page needs its key: open the address that `arriero data inspect` printed.");
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error);
  return body;
}

function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem("arriero-inspect", given);
    history.replaceState(null, "", location.pathname + "#overview");    // out of the address bar and the history
  }
  key = given || sessionStorage.getItem("arriero-inspect") || "";
}

const whole = (value) => Math.round(value).toLocaleString("en");
const many = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
const percent = (share) => share >= .9995 && share < 1 ? "> 99.9 %" : share > 0 && share < .001 ? "< 0.1 %" : `${(100 * share).toFixed(share === 1 || share === 0 ? 0 : 1)} %`;
function bytes(count) {
  for (const [size, unit] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]])
    if (count >= size) return `${(count / size).toPrecision(3)} ${unit}`;
  return `${whole(count)} B`;
}
function figure(value) {
  if (value === null || value === undefined) return "not measured";
  if (Number.isInteger(value)) return whole(value);
  if (Math.abs(value) >= 1000) return whole(value);
  return String(Number(value.toPrecision(3)));
}
const hash = (name, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return "#" + name + (given.length ? "?" + new URLSearchParams(given) : "");
};
const say = (text) => { find("status").textContent = text; };

function table(heads, rows, names = {}) {
  const cell = (tag, value, number) => make(tag, { class: number ? "num" : null }, value ?? "");
  return make("div", { class: "wide" }, make("table", { class: names.class },
    make("thead", {}, make("tr", {}, heads.map((head) => cell("th", head.replace(/^#/, ""), head.startsWith("#"))))),
    make("tbody", {}, rows.map((row) => make("tr", { class: row.class }, (row.cells || row).map((value, i) => cell("td", value, heads[i].startsWith("#"))))))));
}
