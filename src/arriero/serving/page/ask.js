// Asking.

async function errorOf(reply) {
  try {
    return (await reply.json()).error;
  } catch {
    return { message: `The server answered ${reply.status}.` };
  }
}

async function post(conversation, limits, signal) {
  const body = { model: find("model").value, messages: conversation, stream: true, stream_options: { include_usage: true }, include_cost: true, ...limits };
  const reply = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (reply.ok) return reply;
  const error = await errorOf(reply);
  if (error.code === "context_length_exceeded" && limits.max_tokens && error.param === "max_tokens")
    return post(conversation, { ...limits, max_tokens: undefined }, signal);    // as long as still fits: less than was asked for
  throw new Error(error.message);
}

async function* eventsOf(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The answer broke off: the server closed the connection.");
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line.trim() === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

function say(content) {
  const message = { role: "user", content };
  messages.push(message);
  addTurn(message);
  answer();
}

async function answer() {
  const limits = limitsAsked();
  if (!limits) {    // a setting is wrong and says so; the question stays
    addRetry(log.lastElementChild);
    return update();
  }
  const mine = running = new AbortController(), system = find("system").value.trim();
  const conversation = messages.map(({ role, content }) => ({ role, content }));
  if (system) conversation.unshift({ role: "system", content: system });
  const message = { role: "assistant", content: "", tokens: [] }, turn = addTurn(message);
  messages.push(message);
  turn.classList.add("busy");
  log.setAttribute("aria-busy", "true");
  update();
  follow(true);
  const state = { asked: performance.now(), first: 0, last: 0, pieces: 0, reason: "", usage: null, drawn: true };
  let problem = "";
  try {
    for await (const event of eventsOf(await post(conversation, limits, mine.signal))) take(event, message, turn, state);
  } catch (error) {
    if (error.name === "AbortError") state.reason = "stopped";
    else problem = error instanceof TypeError ? "The server does not answer. Is it still running?" : error.message;
  }
  if (running !== mine) return;    // a new chat has begun meanwhile
  running = null;
  finish(turn, message, state, problem);
}

function take(event, message, turn, state) {
  if (event.usage) state.usage = event.usage;
  for (const choice of event.choices) {
    for (const token of choice.logprobs?.content ?? [])
      message.tokens.push([token.token, token.logprob, token.top_logprobs.map((other) => [other.token, other.logprob])]);
    if (choice.delta.content) {
      state.first ||= performance.now();
      state.last = performance.now();
      state.pieces += 1;
      message.content += choice.delta.content;
      if (state.drawn) {
        state.drawn = false;
        requestAnimationFrame(() => { state.drawn = true; if (turn.classList.contains("busy")) { showText(turn, message); follow(); } });
      }
    }
    state.reason = choice.finish_reason || state.reason;
  }
}

function finish(turn, message, state, problem) {
  turn.classList.remove("busy");
  log.removeAttribute("aria-busy");
  message.facts = factsOf(state);
  showText(turn, message);
  if (problem) {
    if (message.content) closeTurn(turn, message);
    else cutAt(messages.indexOf(message));
    addRetry(addProblem(problem));
  } else closeTurn(turn, message);
  save();
  find("status").textContent = problem || "Answer: " + message.content.slice(0, 500);
  update();
  follow();
  if (matchMedia("(pointer: fine)").matches) question.focus();
}

function again() {
  if (running) return;
  const last = messages.findLastIndex((message) => message.role === "user");
  if (last < 0) return;
  cutAt(last + 1);
  answer();
}

function startAfresh() {
  running?.abort();
  running = null;
  cutAt(0);
  save();
  log.removeAttribute("aria-busy");
  update();
  question.focus();
}
