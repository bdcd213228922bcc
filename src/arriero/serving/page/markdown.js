// Markdown to elements; text is only ever set as text.

const INLINE = /(`+)([^`]|[^`][^]*?[^`])\1(?!`)|\*\*(?=\S)([^]*?\S)\*\*|(?<![\w*])\*(?=[^\s*])([^*]*?[^\s*])\*(?!\*)|(?<!\w)_(?=[^\s_])([^_]*?[^\s_])_(?!\w)|~~(?=\S)([^]*?\S)~~|\[([^\]\n]+)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>()]*[^\s<>().,;:!?'"*_])/g;
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*[^`]*$/, HEADING = /^ {0,3}(#{1,6})\s+(.*)$/, RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const ITEM = /^( {0,11})([-*+]|\d{1,9}[.)])\s+(.*)$/, QUOTE = /^ {0,3}>\s?/, COLUMNS = /^ *\|?(?: *:?-+:? *\|)+ *(?::?-+:? *)?$/;

function inline(parent, text, depth = 0) {
  let end = 0;
  for (const found of depth < 4 && text.length < 20000 ? text.matchAll(INLINE) : []) {
    parent.append(text.slice(end, found.index));
    end = found.index + found[0].length;
    const [whole, , code, bold, star, low, gone, name, target, bare] = found;
    const into = (tag, inner) => inline(parent.appendChild(document.createElement(tag)), inner, depth + 1);
    if (code !== undefined) parent.appendChild(make("code", "", code.replace(/^ (.*\S.*) $/, "$1")));
    else if (bold !== undefined) into("strong", bold);
    else if (star ?? low) into("em", star ?? low);
    else if (gone !== undefined) into("s", gone);
    else parent.append(link(target ?? bare, name ?? bare) ?? whole);
  }
  parent.append(text.slice(end));
}

function link(target, name) {
  if (!/^(https?:\/\/|mailto:)/i.test(target)) return null;
  return Object.assign(make("a", "", name), { href: target, target: "_blank", rel: "noopener noreferrer nofollow", title: target });
}

function markdown(parent, text, depth = 0) {
  const lines = text.split("\n");
  let at = 0;
  const add = (tag) => parent.appendChild(document.createElement(tag));
  const take = (goesOn) => {
    const from = at;
    while (at < lines.length && goesOn(lines[at], at - from)) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at], fence = line.match(FENCE), heading = line.match(HEADING);
    if (!line.trim()) at += 1;
    else if (fence) {
      at += 1;
      const shut = (l) => l.trim().startsWith(fence[1]) && !l.trim().slice(fence[1].length).replaceAll(fence[1][0], "");
      const code = make("code", "", take((l) => !shut(l)).join("\n"));
      const box = add("pre");
      box.append(code);
      box.tabIndex = 0;    // wide code is scrolled with the keyboard too
      at += 1;
    } else if (heading) {
      at += 1;
      inline(add("h" + Math.min(6, heading[1].length + 2)), heading[2].trimEnd().replace(/ #+$/, ""));
    } else if (RULE.test(line)) {
      at += 1;
      add("hr");
    } else if (QUOTE.test(line) && depth < 6) markdown(add("blockquote"), take((l) => QUOTE.test(l)).map((l) => l.replace(QUOTE, "")).join("\n"), depth + 1);
    else if (ITEM.test(line) && depth < 6) list(parent, take((l, n) => l.trim() ? n === 0 || ITEM.test(l) || /^ {2,}/.test(l) : ITEM.test(lines[at + 1] ?? "") || /^ {2,}\S/.test(lines[at + 1] ?? "")), depth);
    else if (line.includes("|") && COLUMNS.test(lines[at + 1] ?? "")) table(parent, take((l) => l.includes("|")));
    else inline(add("p"), take((l, n) => l.trim() && (n === 0 || !(FENCE.test(l) || HEADING.test(l) || QUOTE.test(l) || ITEM.test(l) || RULE.test(l)))).join("\n"));
  }
}

function list(parent, lines, depth) {
  const [, indent, mark] = lines[0].match(ITEM), ordered = /\d/.test(mark);
  const box = parent.appendChild(document.createElement(ordered ? "ol" : "ul"));
  if (ordered && parseInt(mark) !== 1) box.start = parseInt(mark);
  let inner = [];
  const shut = () => {
    if (!inner.length) return;
    while (inner.length > 1 && !inner.at(-1).trim()) inner.pop();
    const item = box.appendChild(document.createElement("li"));
    if (inner.some((l) => ITEM.test(l) || FENCE.test(l) || !l.trim())) {
      markdown(item, inner.join("\n"), depth + 1);
      if (item.children.length && item.firstElementChild.tagName === "P" && !inner.some((l) => !l.trim())) item.firstElementChild.replaceWith(...item.firstElementChild.childNodes);
    } else inline(item, inner.join(" "));
  };
  for (const line of lines) {
    const found = line.match(ITEM);
    if (found && found[1].length < indent.length + 2) {
      shut();
      inner = [found[3]];
    } else inner.push(line.replace(/^ {1,4}/, ""));
  }
  shut();
}

function table(parent, lines) {
  const box = parent.appendChild(make("div", "wide")).appendChild(document.createElement("table"));
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  lines.forEach((line, number) => {
    if (number === 1) return;
    const row = box.insertRow();
    for (const cell of cells(line)) inline(row.appendChild(document.createElement(number ? "td" : "th")), cell);
  });
}
