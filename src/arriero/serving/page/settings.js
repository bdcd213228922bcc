// Settings.

const FIELDS = ["system", "temperature", "top_p", "min_p", "top_k", "seed", "tokens", "schema", "logprobs"].map(find);
const valueOf = (field) => field.type === "checkbox" ? field.checked : field.value;

function keepSettings() {
  keep("arriero-settings", JSON.stringify(Object.fromEntries(FIELDS.map((field) => [field.id, valueOf(field)]))));
}

function readSettings() {
  try {
    for (const [name, value] of Object.entries(JSON.parse(recall("arriero-settings") || "{}"))) {
      const field = FIELDS.find((each) => each.id === name);
      if (field) field[field.type === "checkbox" ? "checked" : "value"] = value;
    }
  } catch { /* written by something else */ }
  showValues();
}

function showValues() {
  for (const field of FIELDS) if (field.type === "range") find(field.id + "-value").value = field.value;
}

function schemaAsked() {    // null: none; undefined: not to be read
  const field = find("schema"), text = field.value.trim();
  let schema = null, problem = "";
  try {
    if (text) schema = JSON.parse(text);
    if (text && (schema === null || typeof schema !== "object" || Array.isArray(schema))) problem = "A JSON schema is an object.";
  } catch (error) {
    problem = `Not JSON: ${error.message}`;
  }
  field.setAttribute("aria-invalid", problem !== "");
  find("schema-problem").textContent = problem;
  return problem ? undefined : schema;
}

function limitsAsked() {
  const schema = schemaAsked();
  if (schema === undefined) {
    openPanel(true);
    find("schema").focus();
    return null;
  }
  for (const [name, usual] of [["tokens", Math.min(256, +find("tokens").max)], ["top_k", 0], ["seed", ""]]) {
    const field = find(name);
    if (!field.checkValidity() || (field.value === "" && usual !== "")) field.value = field.value ? Math.min(Math.max(+field.min, Math.round(+field.value) || +usual), +field.max || Infinity) : usual;
  }
  const [top_p, min_p, top_k, seed] = ["top_p", "min_p", "top_k", "seed"].map((name) => find(name).value);
  return {
    temperature: +find("temperature").value, max_tokens: +find("tokens").value,
    ...(+top_p < 1 && { top_p: +top_p }), ...(+min_p > 0 && { min_p: +min_p }), ...(+top_k > 0 && { top_k: +top_k }), ...(seed !== "" && { seed: +seed }),
    ...(schema && { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } }),
    ...(find("logprobs").checked && { logprobs: true, top_logprobs: 5 }),
  };
}

const narrow = matchMedia("(max-width: 56rem)");

function openPanel(on) {
  panel.classList.toggle("hidden", !on);
  find("tune").setAttribute("aria-expanded", on);
  for (const part of [document.querySelector("header"), scroll, document.querySelector("footer")]) part.inert = on && narrow.matches;    // it covers them
  if (on) find(narrow.matches ? "done" : "system").focus();
  else find("tune").focus();
}
