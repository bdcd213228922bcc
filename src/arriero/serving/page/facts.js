// What an answer took.

function factsOf({ asked, first, last, pieces, reason, usage }) {
  const count = usage ? usage.completion_tokens : pieces, seconds = (last - first) / 1000;
  return {
    reason, count,
    first: first ? (first - asked) / 1000 : null,
    speed: count > 1 && seconds > 0 ? (count - 1) / seconds : null,
    prompt: usage?.prompt_tokens ?? null,
    cached: usage?.prompt_tokens_details?.cached_tokens ?? null,
    cost: usage?.cost ?? null,
  };
}

const digits = (value, most = 2) => new Intl.NumberFormat("en", { maximumSignificantDigits: most }).format(value);
const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const told = (quantity) => quantity && typeof quantity.value === "number" ? quantity : null;

function shortFacts({ reason, count, speed, first, cost }) {
  const notes = [many(count, "token")], money = told(cost?.money);
  if (speed) notes.push(`${speed.toFixed(speed < 10 ? 1 : 0)} tokens/s`);
  if (first) notes.push(`first after ${digits(first)} s`);
  if (reason === "length") notes.push("limit reached");
  if (reason === "stopped") notes.push("stopped");
  notes.push(money ? `${money.basis === "measured" ? "" : "≈ "}${digits(money.value)} ${money.unit}` : "cost unknown");
  return notes.join(" · ");
}

function longFacts({ count, prompt, cached, first, speed, cost }) {
  const table = make("dl", "");
  const row = (name, value, why = "") => {
    const cell = make("dd", "", value);
    if (why) cell.append(make("small", "", why));
    table.append(make("dt", "", name), cell);
  };
  const quantity = (name, q) => {
    const known = told(q);
    if (!known) return row(name, "unknown", q?.source || "this server does not tell");
    const band = known.low === known.high ? "" : ` (${digits(known.low)}–${digits(known.high)})`;
    row(name, `${digits(known.value)}${band} ${known.unit}`, [known.basis, known.source].filter(Boolean).join(": "));
  };
  row("First token", first ? `after ${digits(first, 3)} s` : "none came");
  if (speed) row("Then", `${digits(speed, 3)} tokens a second`);
  row("Prompt", prompt === null ? "unknown" : many(prompt, "token") + (cached === null ? "" : `, ${cached.toLocaleString("en")} of them cached`));
  row("Answer", many(count, "token"));
  quantity("Cost", cost?.money);
  quantity("Energy", cost?.energy);
  return table;
}
