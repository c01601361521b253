// Renders /openapi.json. Everything from the server goes in as text, never as markup.
"use strict";

function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Indented, with lists of plain values on one line: a line break outside strings is never part of a value.
function pretty(value) {
  return JSON.stringify(value, null, 1).replace(/\[[^\[\]{}]*\]/g, (list) => list.replace(/\n\s*/g, " "));
}

function table(parent, title, tensors) {
  const made = element("table", undefined, parent);
  const head = element("tr", undefined, made);
  for (const text of [title, "datatype", "shape"]) element("th", text, head);
  for (const tensor of tensors) {
    const row = element("tr", undefined, made);
    element("code", tensor.name, element("td", undefined, row));
    element("td", tensor.datatype, row);
    element("td", "[" + tensor.shape.map((dim) => (dim < 0 ? "any" : dim)).join(", ") + "]", row);
  }
}

async function send(path, body, answer, button) {
  button.disabled = true;
  answer.className = "";
  answer.textContent = "…";
  const started = performance.now();
  try {
    const response = await fetch(path, { method: "POST", body: body });
    const elapsed = (performance.now() - started).toFixed(1);
    let text = await response.text();
    try {
      text = pretty(JSON.parse(text));
    } catch {
      // Not JSON: shown as it came.
    }
    answer.className = response.ok ? "" : "error";
    answer.textContent = response.status + " in " + elapsed + " ms\n" + text;
  } catch (error) {
    answer.className = "error";
    answer.textContent = String(error);
  }
  button.disabled = false;
}

function curl(path, body) {
  const quoted = body.replaceAll("'", "'\\''");
  return "curl " + location.origin + path + " -d '" + quoted + "'";
}

function tryIt(parent, path, operation, open) {
  const details = element("details", undefined, parent);
  details.open = open;
  element("code", "POST " + path, element("summary", undefined, details));
  const media = operation.requestBody.content["application/json"];
  const area = element("textarea", undefined, details);
  area.spellcheck = false;
  area.setAttribute("aria-label", "Request body for " + path);
  area.value = media.example === undefined ? "" : pretty(media.example);
  const button = element("button", "Try it", details);
  const command = element("pre", undefined, details);
  const answer = element("pre", "", details);
  const show = () => {
    let body = area.value;
    try {
      body = JSON.stringify(JSON.parse(body));
    } catch {
      // Not JSON yet: shown as typed.
    }
    command.textContent = curl(path, body);
  };
  area.addEventListener("input", show);
  button.addEventListener("click", () => send(path, area.value, answer, button));
  show();
}

function render(api) {
  document.getElementById("title").textContent = api.info.title + " " + api.info.version;
  document.getElementById("description").textContent = api.info.description;
  const models = document.getElementById("models");
  const server = document.getElementById("server");
  models.replaceChildren();
  const sections = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const model = operation["x-model"];
      if (!model) {
        const row = element("tr", undefined, server);
        const cell = element("td", undefined, row);
        if (method === "get") element("a", method.toUpperCase() + " " + path, cell).href = path;
        else cell.textContent = method.toUpperCase() + " " + path;
        element("td", operation.summary, row);
        continue;
      }
      let section = sections.get(model.name);
      const first = section === undefined;
      if (first) {
        section = element("section", undefined, models);
        sections.set(model.name, section);
        element("h2", model.name + ", version " + model.version, section);
        table(section, "input", model.inputs);
        table(section, "output", model.outputs);
      }
      tryIt(section, path, operation, first);
    }
  }
  if (sections.size === 0) element("p", "No model serves at the moment.", models);
}

fetch("/openapi.json")
  .then((response) => response.json())
  .then(render)
  .catch((error) => {
    document.getElementById("models").textContent = "openapi.json could not be read: " + error;
  });
