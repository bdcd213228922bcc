// Hands.

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const content = question.value.trim();
  if (!content || running || question.disabled) return;
  if (messages.at(-1)?.role === "user") cutAt(messages.length - 1);    // what was not answered gives way
  log.querySelectorAll(".problem").forEach((problem) => problem.remove());
  question.value = "";
  say(content);
});
question.addEventListener("input", update);
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("ask").requestSubmit();
  }
});
stop.addEventListener("click", () => running?.abort());
find("new").addEventListener("click", startAfresh);
find("tune").addEventListener("click", () => openPanel(panel.classList.contains("hidden")));
find("done").addEventListener("click", () => openPanel(false));
find("model").addEventListener("change", () => { keep("arriero-model", find("model").value); modelChosen(); });
find("settings").addEventListener("input", () => { showValues(); keepSettings(); });
find("schema").addEventListener("change", schemaAsked);
find("settings").addEventListener("submit", (event) => event.preventDefault());
find("defaults").addEventListener("click", () => {
  find("settings").reset();
  keep("arriero-settings", "");
  modelChosen();
  showValues();
  schemaAsked();
});
find("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  key = find("key").value.trim();
  sessionStorage.setItem("arriero-key", key);
  connect();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (!tip.classList.contains("hidden")) hideTip();
    else if (running) running.abort();
    else if (!panel.classList.contains("hidden")) openPanel(false);
  }
  if (event.altKey && event.code === "KeyN") { event.preventDefault(); startAfresh(); }
  if (event.altKey && event.code === "KeyS") { event.preventDefault(); openPanel(panel.classList.contains("hidden")); }
});
scroll.addEventListener("scroll", () => { if (explained) placeTip(); }, { passive: true });
narrow.addEventListener("change", () => { if (!panel.classList.contains("hidden")) openPanel(true); });
window.addEventListener("pagehide", save);
window.addEventListener("hashchange", () => { takeKey(); connect(); });
takeKey();
connect();
