// Turns.

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function button(className, text, act, title = "") {
  const made = Object.assign(make("button", className, text), { type: "button", title });
  made.addEventListener("click", act);
  return made;
}

function addTurn(message) {
  const turn = make("article", "turn " + message.role);
  turn.append(make("h3", "only-heard", message.role === "user" ? "You" : "Answer"), make("div", "text"));
  log.append(turn);
  showText(turn, message);
  if (message.role === "assistant" && message.facts) closeTurn(turn, message);
  if (message.role === "user") addFoot(turn, button("edit", "Edit", () => edit(turn, message), "Change this message and ask again from here"));
  return turn;
}

function showText(turn, message) {
  const text = turn.querySelector(".text"), fresh = document.createDocumentFragment();
  if (message.role === "user") fresh.append(message.content);
  else if (message.content) markdown(fresh, message.content);
  else if (message.facts) fresh.append(make("em", "", message.facts.reason === "stopped" ? "stopped before the first word" : "an empty answer"));
  text.classList.remove("tokens");
  text.replaceChildren(fresh);
}

function addFoot(turn, ...parts) {
  const foot = turn.querySelector(".foot") ?? turn.appendChild(make("div", "foot"));
  foot.append(...parts);
}

function addRetry(turn) {
  log.querySelectorAll(".retry").forEach((old) => old.remove());    // only the last answer can be made anew
  if (turn) (turn.querySelector(".foot") ?? turn.appendChild(make("div", "foot"))).prepend(button("retry", "Retry", again, "Answer again"));
}

function closeTurn(turn, message) {
  const { facts } = message;
  if (message.content && navigator.clipboard) addFoot(turn, button("copy", "Copy", (event) => copy(event.target, message.content)));
  if (message.tokens?.length) addFoot(turn, tokensButton(turn, message));
  const more = make("details", "more");
  more.append(make("summary", "facts", shortFacts(facts)), longFacts(facts));
  addFoot(turn, more);
  addRetry(turn);
}

async function copy(pressed, text) {
  try {
    await navigator.clipboard.writeText(text);
    pressed.textContent = "Copied";
  } catch {
    pressed.textContent = "Not allowed";
  }
  setTimeout(() => { pressed.textContent = "Copy"; }, 1500);
}

function edit(turn, message) {
  if (running || turn.classList.contains("editing")) return;
  const text = turn.querySelector(".text"), foot = turn.querySelector(".foot"), field = make("textarea", "");
  field.value = message.content;
  field.rows = 1;
  field.setAttribute("aria-label", "Your message");
  const finish = (ask) => {
    const content = field.value.trim();
    if (ask && !content) return;
    turn.classList.remove("editing");
    field.replaceWith(text);
    foot.replaceChildren(button("edit", "Edit", () => edit(turn, message)));
    if (!ask) return foot.firstElementChild.focus();
    cutAt(messages.indexOf(message));
    say(content);
  };
  const grow = () => { field.style.height = "auto"; field.style.height = field.scrollHeight + 2 + "px"; };
  field.addEventListener("input", grow);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); finish(false); }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); finish(true); }
  });
  turn.classList.add("editing");
  text.replaceWith(field);
  foot.replaceChildren(button("ask-again", "Ask from here", () => finish(true)), button("", "Cancel", () => finish(false)));
  grow();
  field.focus();
}

function cutAt(index) {    // drops a message and all that follow, on the page as in what the model reads
  messages.length = index;
  [...log.children].slice(index).forEach((turn) => turn.remove());
}

function addProblem(text) {
  const problem = make("div", "problem", text);
  problem.setAttribute("role", "alert");
  log.append(problem);
  return problem;
}

function update() {
  const ready = served.length && !question.disabled;
  find("welcome").classList.toggle("hidden", !ready || log.childElementCount > 0);
  send.classList.toggle("hidden", running !== null);
  stop.classList.toggle("hidden", running === null);
  send.disabled = !ready || !question.value.trim();
  log.querySelectorAll(".edit, .retry").forEach((each) => { each.disabled = running !== null; });
  question.style.height = "auto";
  question.style.height = question.scrollHeight + "px";
}

function follow(always = false) {
  const gap = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight;
  if (always || gap < 120) scroll.scrollTop = scroll.scrollHeight;
}
