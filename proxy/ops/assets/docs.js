// The OpenAPI document, to read: one section a tag, one fold an operation.

import { call } from "./connection.js";
import { make, say, set } from "./dom.js";

const main = document.getElementById("main");

try {
  show(await (await call("openapi.json")).json());
} catch (error) {
  main.append(make("p", { class: "notice", role: "alert" }, error.message));
}
set(main, "aria-busy", "false");

function show(api) {
  say(document.getElementById("about"), `${api.info.description} Version ${api.info.version}.`);
  const operations = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => method !== "head" || !methods.get) // the same without its body
      .map(([method, operation]) => ({ path, method: method.toUpperCase(), ...operation })),
  );
  for (const tag of api.tags) {
    const heading = make("h2", { id: tag.name }, tag.name, " ", make("span", { class: "count" }, tag.description));
    const folds = operations.filter((operation) => operation.tags.includes(tag.name)).map((operation) => fold(api, operation));
    main.append(make("section", { "aria-labelledby": tag.name }, heading, make("div", { class: "api" }, ...folds)));
  }
}

function fold(api, operation) {
  const open = operation.security?.length === 0 ? [make("span", { class: "badge" }, "open to everybody")] : [];
  const summary = make("summary", {}, make("span", { class: "method" }, operation.method), make("code", {}, operation.path), make("span", { class: "quiet" }, operation.summary), ...open);
  const body = make("div", { class: "body" });
  if (operation.description) body.append(make("p", {}, operation.description));
  if (operation.parameters) {
    const rows = operation.parameters.map((parameter) => [parameter.name, `in the ${parameter.in}`, parameter.description ?? ""]);
    body.append(table(`Parameters`, ["name", "where", "what"], rows));
  }
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {}))
    body.append(...described(api, `Body, ${type}`, schema));
  body.append(make("pre", {}, example(operation)));
  for (const [status, answer] of Object.entries(operation.responses)) {
    const [[type, { schema }] = ["", {}]] = Object.entries(answer.content ?? {});
    const title = `${status === "default" ? "otherwise" : status}: ${answer.description}`;
    if (status === "200") body.append(...described(api, [title, type].filter(Boolean).join(" · "), schema));
    else body.append(make("p", { class: "quiet" }, title));
  }
  return make("details", {}, summary, body);
}

/** A schema as a title and, where it has members, a table of them. */
function described(api, title, schema) {
  const found = resolve(api, schema);
  if (!found?.properties) return [make("p", {}, title)];
  const rows = Object.entries(found.properties).map(([name, part]) => [name, kind(api, part), about(api, part)]);
  return [table(title, ["member", "type", "what"], rows)];
}

function resolve(api, schema) {
  return schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function kind(api, part) {
  if (part.$ref) return part.$ref.split("/").pop();
  if (part.anyOf) return part.anyOf.map((choice) => kind(api, choice)).join(" or ");
  if (part.enum) return part.enum.join(", ");
  if (part.type === "array") return `list of ${kind(api, part.items ?? {})}`;
  return part.type ?? (part.const === undefined ? "anything" : String(part.const));
}

function about(api, part) {
  const nested = part.items ?? part;
  return part.description ?? resolve(api, nested.$ref ? nested : null)?.description ?? "";
}

function table(title, columns, rows) {
  const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col" }, column)));
  const lines = rows.map((cells) => make("tr", {}, ...cells.map((cell, index) => make("td", { "data-label": columns[index] }, index ? cell : make("code", {}, cell)))));
  return make("table", {}, make("caption", {}, title), make("thead", {}, head), make("tbody", {}, ...lines));
}

function example({ method, path, requestBody, security }) {
  const base = new URL("..", location.href).href.replace(/\/$/, "");
  const parts = ["curl", method === "GET" ? "" : method === "HEAD" ? "-I" : `-X ${method}`, `'${base}${path}'`];
  if (security?.length !== 0) parts.push('-H "Authorization: Bearer $KEY"');
  if (requestBody?.content["application/json"]) parts.push("-d '{…}'");
  return parts.filter(Boolean).join(" ");
}
