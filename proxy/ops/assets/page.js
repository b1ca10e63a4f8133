// The ops page: what the proxy does now, and what an operator can do about it.

import { Events, Refused, call, key } from "./connection.js";
import { graph, list, make, row, say, set, text } from "./dom.js";

const POINTS = 120; // of a graph, one a second
const KEPT = 100; // recent requests
const SHOWN = 20; // of them, until all are wanted

const at = (id) => document.getElementById(id);
const main = at("main");

let status = null;
const running = new Map();
let recent = [];
let all = false;
let shutdown = false;

// Graphs: the last values by name.

const history = new Map();

function note(name, value) {
  const values = history.get(name) ?? [];
  values.push(value);
  if (values.length > POINTS) values.shift();
  history.set(name, values);
}

// What comes

const events = new Events({ event: onEvent, state: onState });

function onEvent(name, data) {
  if (name === "status" || name === "tick") onStatus(data);
  else if (name === "started" || name === "answered") running.set(data.id, data);
  else if (name === "finished") {
    running.delete(data.id);
    recent = [data, ...recent.filter((known) => known.id !== data.id)].slice(0, KEPT);
  } else if (name === "backend") onBackend(data);
  else if (name === "config") announce(data.problems.length ? "The new policy file was refused." : "A new policy file is in force.");
  else if (name === "bye") shutdown = true;
  draw();
}

function onStatus(data) {
  const models = new Map(status?.backends.map((backend) => [backend.name, backend.models]));
  for (const backend of data.backends) backend.models ??= models.get(backend.name) ?? null;
  status = data;
  recent = data.recent ?? recent;
  running.clear();
  for (const request of data.requests) running.set(request.id, request);
  for (const backend of data.backends) note(`backend ${backend.name}`, backend.tokens_per_second);
  note("tokens", sum(data.backends, (backend) => backend.tokens_per_second));
  note("running", data.requests.length);
  note("queue", data.queue.waiting);
  note("memory", data.bodies.held);
}

function onBackend(change) {
  const backend = status?.backends.find((known) => known.name === change.name);
  if (backend) Object.assign(backend, { state: change.state, reason: change.reason, since: 0 });
  announce(`${change.name} is ${change.state}: ${change.reason}`);
}

const SAID = { connecting: "connecting", live: "live", refused: "not signed in" };

function onState(state, detail) {
  const badge = at("connection");
  if (state === "connecting" && badge.dataset.state === "lost") return; // not worth a flicker
  set(badge, "data-state", state);
  say(badge, state === "lost" ? `connection lost, next try in ${text.seconds(detail / 1000)}` : SAID[state]);
  main.classList.toggle("stale", state === "lost");
  if (state === "live") {
    shutdown = false;
    at("sign-out").hidden = !key.get();
    if (at("login").open) at("login").close();
  } else if (state === "lost") announce(shutdown ? "The proxy is shutting down." : "The connection was lost.");
  else if (state === "refused") signIn(detail);
}

let announced = "";

function announce(sentence) {
  if (sentence !== announced) say(at("news"), sentence);
  announced = sentence;
}

// What is drawn

let drawing = false;

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    if (status) show();
  });
}

function show() {
  set(main, "aria-busy", "false");
  const requests = [...running.values()];
  const ill = status.backends.filter((backend) => ["down", "ejected"].includes(backend.state)).length;
  document.title = ill ? `(${ill} down) ollama-proxy` : "ollama-proxy";
  const { config } = status;
  say(at("config"), `policy file ${config.generation}, for ${text.seconds(config.age)}`);
  showProblems(config);
  const badge = at("connection");
  if (badge.dataset.state === "live") say(badge, status.ready.ready ? "live" : `live; ${status.ready.reason}`);

  list(at("tiles"), tiles(requests), (tile) => tile.name, buildTile);
  list(at("backends"), status.backends, (backend) => backend.name, buildBackend);
  list(at("workers"), status.workers, (worker) => worker.number, buildWorker);
  at("workers-section").hidden = status.workers.length === 0;
  list(at("requests"), requests, (request) => request.id, buildRequest);
  list(at("recent"), all ? recent : recent.slice(0, SHOWN), (request) => request.id, buildRecent);
  list(at("queue"), status.queue.tenants, (tenant) => tenant.tenant, buildTenant);
  list(at("limits"), status.limits, (limit) => `${limit.limit} ${limit.whom} ${limit.unit} ${limit.window}`, buildLimit);
  showDeferred(status.journal);
  say(at("running-count"), String(requests.length));
  say(at("queue-count"), status.queue.waiting ? `${status.queue.waiting}, for up to ${text.seconds(status.queue.oldest)}` : "");
  at("requests-empty").hidden = requests.length > 0;
  at("recent-empty").hidden = recent.length > 0;
  at("recent-all").hidden = all || recent.length <= SHOWN;
  say(at("recent-all"), `Show all ${recent.length}`);
  at("queue-empty").hidden = status.queue.waiting > 0;
  at("limits-empty").hidden = status.limits.length > 0;
  say(at("about"), `ollama-proxy ${status.version}, up for ${text.seconds(status.uptime)} · ${config.file} · ${config.chain}`);
}

function showProblems(config) {
  const lines = config.problems.length
    ? ["The policy file was refused; the one before it is still in force:", ...config.problems]
    : config.restart.length ? [`Changed, but in force only after a restart: ${config.restart.join(", ")}`] : [];
  at("problems").hidden = lines.length === 0;
  if (at("problems").key === lines.join("\n")) return;
  at("problems").key = lines.join("\n");
  const items = lines.slice(1).map((line) => make("li", {}, line));
  at("problems").replaceChildren(make("p", {}, lines[0] ?? ""), make("ul", {}, ...items));
}

const sum = (items, read) => items.reduce((total, item) => total + read(item), 0);

function tiles(requests) {
  const up = status.backends.filter((backend) => ["up", "suspect"].includes(backend.state)).length;
  return [
    { name: "tokens", title: "Tokens per second", value: text.rate(sum(status.backends, (backend) => backend.tokens_per_second)), graph: true },
    { name: "running", title: "Running requests", value: String(requests.length), graph: true },
    { name: "queue", title: "Waiting", value: String(status.queue.waiting), graph: true },
    { name: "memory", title: "Request bodies in memory", value: text.bytes(status.bodies.held), detail: ` of ${text.bytes(status.bodies.total)}`, graph: true },
    { name: "up", title: "Backends up", value: String(up), detail: ` of ${status.backends.length}`, ill: up < status.backends.length },
  ];
}

function buildTile(tile) {
  const value = make("span");
  const detail = make("small");
  const curve = tile.graph ? graph(POINTS) : null;
  const element = make("div", { class: "tile" }, make("dt", {}, tile.title), make("dd", {}, value, detail), ...(curve ? [curve] : []));
  element.show = (now) => {
    say(value, now.value);
    value.classList.toggle("ill", now.ill ?? false);
    say(detail, now.detail ?? "");
    curve?.show(history.get(now.name) ?? []);
  };
  return element;
}

function buildBackend({ name }) {
  const part = (tag, kind) => make(tag, { class: kind });
  const badge = part("span", "badge");
  const drain = make("button", { type: "button" });
  const [url, why, slots, facts, models] = [part("p", "url quiet"), part("p", "why"), part("p", "slots"), part("p", "facts"), part("ul", "models")];
  set(models, "aria-label", `Models in the memory of ${name}`);
  set(slots, "aria-hidden", "true"); // the facts say it
  const curve = graph(POINTS);
  const element = make("li", { class: "card" }, make("div", { class: "head" }, make("h3", {}, name), badge, drain), url, why, slots, facts, models, curve);
  let draining = false;
  drain.addEventListener("click", () =>
    draining
      ? act(`undrain/${encodeURIComponent(name)}`)
      : confirm(`Send ${name} no new requests? What it runs goes on.`, "Drain", `drain/${encodeURIComponent(name)}`),
  );
  element.show = (backend) => {
    draining = backend.state === "draining";
    set(element, "data-state", backend.state);
    set(badge, "data-state", backend.state);
    say(badge, backend.state);
    say(drain, draining ? "Undrain" : "Drain");
    set(drain, "aria-label", `${draining ? "Undrain" : "Drain"} ${name}`);
    say(url, `${backend.url} · ${backend.version ? `Ollama ${backend.version}` : "version unknown"}`);
    const since = backend.since ? `, for ${text.seconds(backend.since)}` : "";
    const news = backend.last_error && !backend.reason.includes(backend.last_error);
    const error = news && backend.state !== "up" ? `; last error: ${backend.last_error}` : "";
    say(why, `${backend.reason}${since}${error}`);
    why.hidden = backend.state === "up" && !backend.since;
    const count = Math.min(backend.slots ?? 0, 32);
    list(slots, Array.from({ length: count }, (_, index) => index), (index) => index, () => Object.assign(make("i"), { show() {} }));
    [...slots.children].forEach((slot, index) => slot.classList.toggle("taken", index < backend.active));
    list(facts, [
      `${backend.active}${backend.slots === null ? "" : ` of ${backend.slots}`} running`,
      `${text.rate(backend.tokens_per_second)} tokens/s`,
      `first byte ${text.seconds(backend.first_byte)}`,
      ...(backend.models ? [`${backend.models.length} models`] : []),
      ...(backend.weight === 1 ? [] : [`weight ${backend.weight}`]),
    ].entries(), ([index]) => index, () => {
      const span = make("span");
      span.show = ([, fact]) => say(span, fact);
      return span;
    });
    list(models, backend.resident, (model) => model.name, (model) => buildModel(name, model));
    curve.show(history.get(`backend ${name}`) ?? []);
  };
  return element;
}

function buildModel(backend, { name }) {
  const detail = make("span", { class: "quiet" });
  const unload = make("button", { type: "button", class: "link", "aria-label": `Unload ${name} from ${backend}` }, "unload");
  const path = `unload/${encodeURIComponent(backend)}?model=${encodeURIComponent(name)}`;
  unload.addEventListener("click", () => confirm(`Let ${backend} forget ${name}? The next request for it loads it again.`, "Unload", path));
  const element = make("li", {}, make("span", {}, make("span", { class: "name" }, name), " ", detail), unload);
  element.show = (model) => {
    const facts = model.loading ? ["loading"] : [text.bytes(model.vram)];
    if (model.context_length) facts.push(`${text.number(model.context_length)} ctx`);
    if (model.active) facts.push(`${model.active}${model.slots === null ? "" : ` of ${model.slots}`} running`);
    say(detail, facts.join(" · "));
    unload.hidden = model.loading;
  };
  return element;
}

const who = (request) => request.identity ?? request.client;
const state = (word) => make("span", { class: "badge", "data-state": word }, word.replaceAll("_", " "));

function buildRequest({ id }) {
  const columns = [["Who"], ["Model"], ["Route"], ["Host"], ["State"], ["Age", "number"], ["First token", "number"], ["Tokens/s", "number"], ["Tokens", "number"], ["", "action"]];
  const button = make("button", { type: "button", class: "danger" }, "Cancel");
  let request;
  button.addEventListener("click", () =>
    confirm(`Cancel the request of ${who(request)}${request.model ? ` to ${request.model}` : ""}? Its answer breaks off.`, "Cancel it", `cancel/${id}`),
  );
  let [badge, word] = [null, null];
  const element = row(columns, (now) => {
    request = now;
    set(button, "aria-label", `Cancel the request of ${who(now)}`);
    if (word !== now.state) [badge, word] = [state(now.state), now.state];
    return [
      who(now), now.model ?? "–", now.route ?? "–", now.backend ?? "–", badge, text.seconds(now.seconds),
      text.seconds(now.first_byte), text.rate(now.tokens_per_second), text.number(now.chunks), button,
    ];
  });
  set(element, "data-request", id);
  return element;
}

function showDeferred(journal) {
  const counts = Object.entries(journal.counts).filter(([, number]) => number > 0);
  at("deferred-section").hidden = journal.reached && counts.length === 0 && journal.entries.length === 0;
  const told = journal.reached ? counts.map(([word, number]) => `${number} ${word}`).join(", ") : "the journal cannot be reached";
  say(at("deferred-count"), told);
  list(at("deferred"), journal.entries, (entry) => entry.id, buildDeferred);
}

const RETRIED = ["dead", "failed", "cancelled", "expired"];

function buildDeferred({ id }) {
  const columns = [["Came"], ["Who"], ["Kind"], ["Model"], ["Route"], ["State"], ["Why"], ["Attempts", "number"], ["Answer", "number"], ["", "action"]];
  const button = make("button", { type: "button" });
  let [badge, word, open] = [null, null, true];
  button.addEventListener("click", () =>
    open
      ? confirm("Cancel this deferred request or batch? Its caller finds it cancelled.", "Cancel it", `journal/${encodeURIComponent(id)}/cancel`)
      : act(`journal/${encodeURIComponent(id)}/retry`),
  );
  const element = row(columns, (now) => {
    open = ["queued", "running"].includes(now.state);
    button.hidden = !open && (now.kind !== "request" || !RETRIED.includes(now.state));
    button.classList.toggle("danger", open);
    say(button, open ? "Cancel" : "Retry");
    set(button, "aria-label", `${open ? "Cancel" : "Retry"} the ${now.kind} of ${who(now)}`);
    if (word !== now.state) [badge, word] = [state(now.state), now.state];
    return [
      text.clock(now.created), who(now), now.kind, now.model ?? "–", now.route || "–", badge,
      now.error_code ?? "–", text.number(now.attempts), text.bytes(now.recorded), button,
    ];
  });
  set(element, "data-entry", id);
  return element;
}

function buildRecent(first) {
  const columns = [["Came"], ["Who"], ["Model"], ["Route"], ["Host, and why", "wide"], ["Outcome"], ["Queued", "number"], ["First token", "number"], ["Took", "number"], ["Tokens", "number"]];
  const outcome = make("span", {}, state(first.outcome ?? "finished"), ` ${first.status ?? ""}`);
  const why = [first.backend, first.reason ? `(${first.reason})` : null, first.attempts > 1 ? `${first.attempts} attempts` : null, first.error].filter(Boolean);
  const element = row(columns, (request) => [
    text.clock(request.started), who(request), request.model ?? "–", request.route ?? "–", why.join(" ") || "–", outcome,
    text.seconds(request.queued || null), text.seconds(request.first_byte), text.seconds(request.seconds),
    request.tokens_out === null ? "–" : text.number(request.tokens_out),
  ]);
  set(element, "data-request", first.id);
  return element;
}

function buildBar() {
  const [name, value, meter] = [make("span"), make("span", { class: "value" }), make("meter", { min: 0, max: 1 })];
  const element = make("li", {}, make("div", { class: "line" }, make("span", {}, name), value), meter);
  return { element, name, value, meter };
}

function buildTenant({ tenant }) {
  const { element, name, value, meter } = buildBar();
  element.show = ({ waiting }) => {
    say(name, tenant);
    say(value, `${waiting} waiting`);
    set(meter, "value", waiting / Math.max(1, status.queue.waiting));
    set(meter, "aria-label", `Part of the queue that is ${tenant}'s`);
  };
  return element;
}

function buildWorker({ number }) {
  const { element, name, value, meter } = buildBar();
  element.show = ({ pid, uptime, requests, connections }) => {
    say(name, `Worker ${number}`);
    say(value, pid === null ? "not there" : `${requests} running, ${connections} connections, process ${pid}, up for ${text.seconds(uptime)}`);
    set(meter, "value", requests / Math.max(1, sum(status.workers, (worker) => worker.requests)));
    set(meter, "aria-label", `Part of the running requests that worker ${number} has`);
  };
  return element;
}

function buildLimit() {
  const { element, name, value, meter } = buildBar();
  const entry = make("span", { class: "quiet" });
  name.after(entry);
  Object.entries({ low: 0.7, high: 0.95, optimum: 0 }).forEach(([bound, share]) => set(meter, bound, share));
  element.show = (limit) => {
    say(name, limit.whom.replaceAll(/(^|,)\w+=/g, "$1").replaceAll(",", " · "));
    say(entry, ` ${limit.limit}`);
    const per = limit.window === null ? "running" : `per ${limit.window}`;
    const resets = limit.resets_in ? `, more in ${text.seconds(limit.resets_in)}` : "";
    const what = limit.window === null ? "requests" : limit.unit;
    say(value, `${text.number(limit.used)} of ${text.number(limit.amount)} ${what} ${per}${resets}`);
    set(meter, "value", Math.min(1, limit.used / limit.amount));
    set(meter, "aria-label", `${limit.whom}, ${limit.limit}`);
  };
  return element;
}

// What is done

async function act(path) {
  try {
    const answer = await (await call(path, { method: "POST" })).json();
    announce(`Done: ${answer.done}.`);
  } catch (error) {
    announce(`That failed: ${error.message}`);
    if (error instanceof Refused && error.status === 401) signIn(error);
  }
}

function confirm(question, yes, path) {
  const dialog = at("confirm");
  say(at("confirm-text"), question);
  say(at("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.onclose = () => dialog.returnValue === "yes" && act(path);
  dialog.showModal();
}

function signIn(refusal) {
  const known = key.get() !== null;
  say(at("login-error"), known || refusal.status === 404 ? refusal.message : "");
  key.clear();
  at("sign-out").hidden = true;
  if (!at("login").open) at("login").showModal();
  at("key").focus();
}

at("login").addEventListener("cancel", (event) => event.preventDefault()); // there is nothing behind it
at("login").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(at("key").value.trim());
  at("key").value = "";
  events.resume();
});
at("recent-all").addEventListener("click", () => {
  all = true;
  draw();
});
at("sign-out").addEventListener("click", () => {
  key.clear();
  location.reload();
});

// The theme

const THEMES = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };

function theme(name) {
  const [sign, words] = THEMES[name];
  set(document.documentElement, "data-theme", name === "system" ? null : name);
  say(at("theme"), sign);
  set(at("theme"), "aria-label", `Theme: ${words}`);
  localStorage.setItem("ollama-proxy theme", name);
}

const chosen = localStorage.getItem("ollama-proxy theme");
theme(chosen in THEMES ? chosen : "system");
at("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(localStorage.getItem("ollama-proxy theme")) + 1) % names.length]);
});

events.resume();
