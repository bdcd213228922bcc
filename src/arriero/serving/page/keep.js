// What this browser keeps.

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
    return true;
  } catch {
    return false;    // full, or switched off: the page works without
  }
}

function recall(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

function save() {
  if (keep("arriero-chat", JSON.stringify(messages))) return;
  keep("arriero-chat", JSON.stringify(messages.map(({ tokens, ...rest }) => rest)));    // without what takes most room
}

function restore() {
  try {
    for (const message of JSON.parse(recall("arriero-chat") || "[]")) {
      if (!["user", "assistant"].includes(message.role) || typeof message.content !== "string") break;
      messages.push(message);
      addTurn(message);
    }
  } catch {    // written by something else, or by another version of this page
    log.replaceChildren();
    cutAt(0);
  }
  if (messages.at(-1)?.role === "user") addRetry(log.lastElementChild);
  follow(true);
}
