// The way in.

function takeKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem("arriero-key", given);
    history.replaceState(null, "", location.pathname);    // out of the address bar and the history
  }
  key = given || sessionStorage.getItem("arriero-key") || "";
}

function headers() {
  return { "Content-Type": "application/json", ...(key && { Authorization: "Bearer " + key }) };
}

async function connect() {
  let reply;
  try {
    reply = await fetch("v1/models", { headers: headers() });
  } catch {
    return showDoor("The server does not answer. Is it still running?", false);
  }
  if (reply.status === 401) return showDoor(key ? "That key is not the right one. The server printed it when it started." : "");
  if (!reply.ok) return showDoor((await errorOf(reply)).message, false);
  served = (await reply.json()).data.filter((m) => m.task !== "embeddings");
  listModels();
  readSettings();
  if (!messages.length) restore();
  find("door").classList.add("hidden");
  showControls(true);
  question.disabled = false;
  update();
  question.focus();
}

function showControls(on) {
  for (const part of [find("tools"), find("model"), document.querySelector("footer")]) part.classList.toggle("hidden", !on);
}

function showDoor(why, askKey = true) {
  showControls(false);
  if (why) find("why").textContent = why;
  find("unlock").classList.toggle("hidden", !askKey);
  find("door").querySelector("h2").textContent = askKey ? "A key, please" : "Not connected";
  find("door").classList.remove("hidden");
  find("welcome").classList.add("hidden");
  if (askKey) find("key").focus();
}

function listModels() {
  const select = find("model"), wanted = select.value || recall("arriero-model");
  const option = (m) => Object.assign(document.createElement("option"), { value: m.id, textContent: m.id });
  const adapters = document.createElement("optgroup");
  adapters.label = "Adapters";
  adapters.append(...served.filter((m) => m.parent).map(option));
  select.replaceChildren(...served.filter((m) => !m.parent).map(option), ...(adapters.childElementCount ? [adapters] : []));
  if (served.some((m) => m.id === wanted)) select.value = wanted;
  modelChosen();
}

function modelChosen() {
  const chosen = served.find((m) => m.id === find("model").value) ?? served[0];
  const base = served.find((m) => m.id === chosen.parent) ?? chosen;
  const context = chosen.context_length ?? base.context_length ?? 4096;
  find("tokens").max = context;
  if (!recall("arriero-settings")) find("tokens").value = Math.min(256, Math.floor(context / 2));
  document.title = chosen.id + " – Arriero chat";
  find("about").textContent =
    `${chosen.id} runs on this server, with a context of ${context.toLocaleString("en")} tokens. Nothing you type leaves it; this browser keeps the conversation until you begin a new chat.`;
}
