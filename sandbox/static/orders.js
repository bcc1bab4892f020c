// The orders' page. What it shows was written by shops and buyers: it goes into text nodes only, never into markup.
"use strict";

const EVERY = 1000;
const WITHOUT = "without-order";
const find = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 56rem)");
const [live, list, detail] = ["live", "orders", "detail"].map(find);

let etag = null;
let orders = null;
let chosen = asked();
let stale = true; // what is shown of the chosen order may not be all
let polling = false;
let timer = 0;
let goneSince = null;
const rows = new Map();
let shown = null; // the order, or WITHOUT, that is drawn, and its elements

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) if (value != null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child)); // what is not to be shown is null, false or empty
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Puts children in order; those that are there already are not moved, so that focus and scroll position stay. */
function place(parent, wanted) {
  const kept = new Set(wanted);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  let at = parent.firstElementChild;
  for (const child of wanted) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
}

// --- Words ------------------------------------------------------------------------------------------------------------

const STATUS = { paid: "ok", partially_refunded: "back", refunded: "back", disputed: "bad", mismatched: "bad" };
const OUTCOME = { settled: "ok", redelivered: "ok", recorded: "ok", parked: "warn", second_payment: "warn", mismatched: "warn", unmatched: "warn" };
const TROUBLE = /^(order\.(disputed|refund_anomaly)|payment\.(second|unmatched|mismatched)|ledger\.drift)$/;
const FACT = {
  payment: "Payment stored", subscription: "Subscription stored", refund: "Refund stored", claim: "Claim noted, which changes nothing",
  flags: "What the API shows of the payment", void: "The payment belongs to another order", drift: "Pocketsflow denies what is stored", accepted: "A person accepted it", body: "Body kept as it came",
};
const words = (name) => name.replaceAll("_", " ");
const money = (amount, currency) => [amount, currency?.toUpperCase()].filter(Boolean).join(" ");
const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function age(at) {
  const seconds = Math.max(0, (Date.now() - Date.parse(at)) / 1000);
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

function since(at, start) {
  const passed = Date.parse(at) - Date.parse(start);
  if (passed < 1000) return `+${passed} ms`;
  if (passed < 60000) return `+${(passed / 1000).toFixed(1)} s`;
  return passed < 3600000 ? `+${Math.round(passed / 60000)} min` : `+${Math.round(passed / 3600000)} h`;
}

/** JSON indented, and not a character of it changed: parsing would turn 49.00 into 49. Anything else as it is. */
const DEEPEST = 40;

function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let depth = 0;
  const line = (by) => `\n${"  ".repeat(Math.min((depth += by), DEEPEST))}`; // or what is deep would be quadratic
  return text.replace(/"(?:[^"\\]|\\.)*"|([{[])\s*([}\]])|[{[]|[}\]]|,|:|\s+/g, (token, open, close) => {
    if (open) return open + close;
    if (token === "{" || token === "[") return token + line(1);
    if (token === "}" || token === "]") return line(-1) + token;
    if (token === ",") return token + line(0);
    if (token === ":") return ": ";
    return token[0] === '"' ? token : "";
  });
}

/** With what turns the direction of text made visible, as JSON would write it. */
const plain = (text) => String(text).replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
const json = (content) => JSON.stringify(content, null, 2);
const bdi = (text) => element("bdi", null, text);
const code = (text) => element("code", { dir: "auto" }, plain(text));
const pill = (status) => element("span", { class: "pill", "data-tone": STATUS[status] }, words(status));
const chip = (text, tone) => element("span", { class: "chip", "data-tone": tone }, text);
const more = (name, text) => element("details", { "data-name": name }, element("summary", null, name), element("pre", null, plain(text)));

// --- The list ---------------------------------------------------------------------------------------------------------

function drawList() {
  const drawn = orders.orders.map((order) => {
    const row = rows.get(order.id) ?? newRow(order);
    rows.set(order.id, row);
    if (row.status !== order.status) {
      row.pill.replaceChildren(pill(order.status));
      row.status = order.status;
    }
    return row.item;
  });
  place(list, drawn);
  for (const id of rows.keys()) if (!rows.get(id).item.isConnected) rows.delete(id);
  find("none").hidden = orders.orders.length > 0;
  find("older").hidden = !orders.older;
  find("older").textContent = `${count(orders.older, "older order")}: by link, #ord_…`;
  find("without").hidden = false; // from the first drawing on, which would have moved it
  write(find("without").lastElementChild, String(orders.without));
  mark();
}

function newRow(order) {
  const time = element("time", { datetime: order.at, title: clock(order.at) });
  const status = element("span");
  const price = money(order.price, order.currency);
  const link = element(
    "a", { href: `#${order.id}` },
    element("span", { class: "what", dir: "auto" }, order.sku ?? order.name ?? "order"), status,
    element("span", { class: "id" }, `ord_…${order.id.slice(-10)}`), element("span", { class: "more" }, price, time),
  );
  return { item: element("li", null, link), pill: status, time, at: order.at, link };
}

function mark() {
  for (const link of document.querySelectorAll("#list a[href^='#']")) {
    if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function tick() {
  for (const { time, at } of rows.values()) write(time, age(at));
}

// --- One order --------------------------------------------------------------------------------------------------------

function begin(key) {
  shown = { key, steps: new Map(), records: new Map(), fresh: true };
  shown.way = element("ol", { class: "way", "aria-label": key === WITHOUT ? "What belongs to no order" : "The way of the order" });
  shown.rail = element("ol", { class: "rail", "aria-label": "At a glance" });
  shown.heading = element("h2", { tabindex: "-1", dir: "auto" });
  shown.pill = element("span");
  shown.under = element("p", { class: "under" });
  const back = element("a", { class: "back", href: "#" }, "← All orders");
  const title = element("div", { class: "title" }, shown.heading, shown.pill);
  shown.held = element("section", { class: "records" }, element("h3", null, "In the ledger"));
  detail.replaceChildren(back, title, shown.under, ...(key === WITHOUT ? [] : [shown.rail]), shown.way, ...(key === WITHOUT ? [] : [shown.held]));
  detail.scrollTop = 0;
  if (!wide.matches) {
    scrollTo(0, 0);
    shown.heading.focus();
  }
}

function drawWay(way) {
  if (shown?.key !== way.id) begin(way.id);
  write(shown.heading, way.name ?? way.sku ?? "Order");
  if (shown.status !== way.status) {
    shown.pill.replaceChildren(pill(way.status));
    shown.status = way.status;
    document.title = `${words(way.status)} · ${way.sku ?? "order"} · Sandbox orders`;
  }
  if (shown.fresh) {
    const price = money(way.price, way.currency);
    shown.under.replaceChildren(...[way.sku && bdi(way.sku), price && element("span", null, price), code(way.id)].filter(Boolean));
  }
  drawRail(way);
  const drawn = way.steps.map((step) => drawStep(step, since(step.at, way.at), way.winner));
  const waiting = drawWaiting(way);
  place(shown.way, waiting ? [...drawn, waiting] : drawn);
  drawRecords(way.records);
  shown.fresh = false;
}

function drawWithout({ steps }) {
  if (shown?.key !== WITHOUT) begin(WITHOUT);
  write(shown.heading, "Without an order");
  write(shown.under, steps.length ? "Deliveries, facts and events that name no order of this ledger, newest first." : "Nothing yet: whatever names no order of this ledger appears here.");
  document.title = "Without an order · Sandbox orders";
  place(shown.way, steps.map((step) => drawStep(step, clock(step.at), null)));
  shown.fresh = false;
}

function drawMissing(id) {
  shown = null;
  const back = element("a", { class: "back", href: "#" }, "← All orders");
  detail.replaceChildren(back, element("p", { class: "hint" }, "There is no order ", code(id), " here. The sandbox keeps nothing after it ends."));
}

function drawStep(step, when, winner) {
  const facts = JSON.stringify([step, winner === step.name, when]);
  const known = shown.steps.get(step.key);
  if (known?.facts === facts) return known.item;
  const item = known?.item ?? element("li", { class: shown.fresh ? "step" : "step new", "data-kind": step.kind });
  const open = new Set([...item.querySelectorAll("details[open]")].map((each) => each.dataset.name));
  const focused = item.contains(document.activeElement) ? document.activeElement.closest("details")?.dataset.name : null;
  const time = element("time", { class: "when", datetime: step.at, title: step.at }, when);
  let drawn;
  try {
    drawn = DRAW[step.kind](step, winner).filter(Boolean);
  } catch { // no step keeps the others from being seen
    drawn = [element("p", null, "This cannot be drawn."), more("As it came", JSON.stringify(step))];
  }
  const blocks = drawn.filter((each) => each.localName === "details");
  item.replaceChildren(time, element("div", null, ...drawn.slice(0, drawn.length - blocks.length), element("div", { class: "blocks" }, ...blocks)));
  for (const each of item.querySelectorAll("details")) {
    if (open.has(each.dataset.name)) each.open = true;
    if (focused === each.dataset.name) each.firstElementChild.focus();
  }
  shown.steps.set(step.key, { item, facts });
  return item;
}

const head = (where, text, ...chips) => element("h3", null, element("span", { class: "where" }, where), text, " ", element("span", { class: "chips" }, ...chips));
const said = (...parts) => element("p", { class: "said" }, ...parts.filter(Boolean).map((part) => (typeof part === "string" ? element("span", null, part) : part)));

const DRAW = {
  opened: ({ fields }) => [
    head("API", "Checkout opened"),
    said(fields.sku && bdi(fields.sku), money(fields.price, fields.currency), fields.customer_email && bdi(fields.customer_email)),
    more("What was ordered", json(fields)),
  ],
  session: ({ id, url, request, error }) => error
    ? [head("Pocketsflow", "No session was made", chip(error, "bad"))]
    : [
        head("Pocketsflow", "Session made"),
        said(code(id), safe(url) && element("a", { href: url }, "checkout page")),
        request && more("What Pocketsflow was asked", json(request)),
      ],
  paid: ({ id, amount, currency, email }) => [head("Pocketsflow", "Buyer paid"), said(money(amount, currency), bdi(email), code(id))],
  refunded: ({ id, amount, currency, status }) => [head("Pocketsflow", "Refund made", chip(status)), said(money(amount, currency), code(id))],
  delivery: (step) => [
    head(
      "Webhook", bdi(step.event),
      chip(step.status == null ? words(step.error ?? "no answer") : `HTTP ${step.status}`, step.status === 200 ? "ok" : "bad"),
      step.outcome && chip(words(String(step.outcome)), OUTCOME[step.outcome] ?? "bad"), step.error !== "dropped" && chip(`${step.ms} ms`),
    ),
    more(`Body, ${new TextEncoder().encode(step.body).length} bytes`, pretty(step.body)),
    more("Headers", Object.entries(step.headers).map((pair) => pair.join(": ")).join("\n")),
    step.response != null && more("Answer", typeof step.response === "string" ? step.response : json(step.response)),
  ],
  fact: (step, winner) => [
    head("Ledger", FACT[step.fields.kind] ?? step.fields.kind, chip(`by ${step.source}`), winner === step.name && chip("settles the order", "ok"), step.fields.status && chip(step.fields.status)),
    said(code(step.name)),
    more("Fact", json(step.fields)),
    step.raw && more("Raw body", pretty(step.raw)),
  ],
  event: (step) => [
    head("Bus", bdi(step.type), step.revision != null && chip(`revision ${step.revision}`), TROUBLE.test(step.type) && chip("a person is told", "warn")),
    step.id && said(code(step.id)),
    more("Detail", json(step.detail)),
  ],
};
const safe = (url) => /^https?:\/\//.test(url ?? "");

const lacking = (way, kind) => !way.steps.some((step) => step.kind === kind);

function drawWaiting(way) {
  let text = null;
  if (way.status === "pending" && lacking(way, "paid") && lacking(way, "fact")) text = way.error ? null : "Waiting for the buyer to pay";
  else if (way.status === "pending" && lacking(way, "delivery")) text = "Paid, and no webhook has come yet. What none tells, reconciliation finds within minutes";
  else if (way.status === "pending" && lacking(way, "fact")) {
    text = way.steps.some((step) => step.status === 200) ? "Delivered, and waiting for the ledger to take it" : "No webhook has arrived. What none tells, reconciliation finds within minutes";
  }
  else if (!lacking(way, "fact") && lacking(way, "event")) text = "On its way to the bus";
  if (!text) return null;
  shown.waiting ??= element("li", { class: "step", "data-kind": "waiting" }, element("span", { class: "when" }, "…"), element("p"));
  write(shown.waiting.lastElementChild, text);
  return shown.waiting;
}

function drawRail(way) {
  const of = (kind) => way.steps.filter((step) => step.kind === kind);
  const [session, paid, deliveries, facts, events] = ["session", "paid", "delivery", "fact", "event"].map(of);
  const told = (each) => words(String(each.outcome ?? each.status ?? each.error));
  const times = (number) => (number > 1 ? ` ×${number}` : "");
  const wrong = deliveries.find((each) => each.status !== 200) ?? deliveries.find((each) => OUTCOME[each.outcome] === "warn");
  const stages = [
    ["Checkout", "ok", clock(way.at)],
    ["Session", session.length ? (session[0].error ? "bad" : "ok") : "wait", session.length ? (session[0].error ? words(session[0].error) : since(session[0].at, way.at)) : ""],
    ["Payment", paid.length > 1 ? "warn" : paid.length ? "ok" : "wait", paid.length ? since(paid[0].at, way.at) + times(paid.length) : ""],
    ["Webhook", wrong ? (wrong.status === 200 ? "warn" : "bad") : deliveries.length ? "ok" : "wait", wrong ? told(wrong) : deliveries.length > 1 ? `${deliveries.length} delivered` : deliveries.map(told).join("")],
    ["Ledger", facts.length ? (STATUS[way.status] === "bad" ? "bad" : "ok") : "wait", facts.length ? count(facts.length, "fact") : ""],
    ["Bus", events.length ? (events.some((each) => TROUBLE.test(each.type)) ? "warn" : "ok") : "wait", events.length ? (events.length === 1 ? events[0].type : count(events.length, "event")) : ""],
  ];
  const signs = { ok: "✓", warn: "!", bad: "×", wait: "" };
  if (!shown.rail.children.length) shown.rail.append(...stages.map(([name]) => element("li", null, element("i", { "aria-hidden": "true" }), element("b", null, name), element("span"))));
  stages.forEach(([, tone, note], number) => {
    const [sign, , text] = shown.rail.children[number].children;
    shown.rail.children[number].dataset.tone = tone;
    write(sign, signs[tone]);
    write(text, note || "not yet");
  });
}

function drawRecords(records) {
  const drawn = Object.entries(records).map(([pk, record]) => {
    const block = shown.records.get(pk) ?? element("details", null, element("summary", null, code(pk)), element("pre"));
    shown.records.set(pk, block);
    write(block.lastElementChild, plain(json(record)));
    return block;
  });
  place(shown.held, [shown.held.firstElementChild, ...drawn]);
}

// --- What moves it ----------------------------------------------------------------------------------------------------

function asked() {
  let hash = location.hash.slice(1);
  try {
    hash = decodeURIComponent(hash);
  } catch {
    return "";
  }
  return hash === WITHOUT || hash.startsWith("ord_") ? hash : "";
}

function choose(next) {
  const before = chosen;
  // On a wide screen the pane beside the list is not left empty, as long as nobody has chosen.
  chosen = next || (wide.matches && orders?.orders[0]?.id) || "";
  stale = true;
  document.body.dataset.view = chosen ? "order" : "list";
  mark();
  if (!chosen) {
    if (!shown) return;
    shown = null;
    document.title = "Sandbox orders";
    (rows.get(before)?.link ?? (before === WITHOUT ? find("without") : null))?.focus();
  }
  poll();
}

class Fault extends Error {}

async function get(path, known) {
  const response = await fetch(`/_sandbox/${path}`, { headers: known ? { "If-None-Match": known } : {}, cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (![200, 304, 404].includes(response.status)) throw new Fault(String(response.status));
  return response;
}

async function refresh() {
  const answer = await get("orders", etag);
  if (answer.status === 200) {
    orders = await answer.json();
    etag = answer.headers.get("ETag");
    stale = true;
    drawList();
    if (!chosen) choose("");
  }
  tick();
  if (!stale || !chosen) return;
  const wanted = chosen;
  let content = null;
  if (wanted === WITHOUT || rows.has(wanted) || orders.older) {
    const way = await get(`ways/${wanted === WITHOUT ? "" : encodeURIComponent(wanted)}`);
    if (way.status === 200) content = await way.json();
  }
  if (wanted !== chosen) return;
  if (!content) drawMissing(wanted);
  else if (wanted === WITHOUT) drawWithout(content);
  else drawWay(content);
  stale = false;
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden || polling) return;
  polling = true;
  let wait = EVERY;
  try {
    await refresh();
    goneSince = null;
    live.dataset.state = "live";
    write(live, "Live");
  } catch (problem) {
    goneSince ??= clock(Date.now());
    live.dataset.state = "gone";
    write(live, problem instanceof Fault ? `The sandbox answers ${problem.message}, trying again` : `Sandbox gone since ${goneSince}, trying again`);
    wait = 2 * EVERY;
  }
  polling = false;
  timer = setTimeout(poll, stale && chosen && !goneSince ? 0 : wait);
}

list.addEventListener("keydown", (event) => {
  const by = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const next = by && event.target.closest("li")?.[by]?.querySelector("a");
  if (!next) return;
  event.preventDefault();
  next.focus();
});
addEventListener("hashchange", () => {
  if (location.hash === "#detail") return; // the skip link's
  choose(asked());
});
document.addEventListener("visibilitychange", poll);
document.body.dataset.view = chosen ? "order" : "list";
poll();
