// The thank-you page: asks GET /orders/{id} until the order is in a final state, and says no more than the answer does.
(() => {
  "use strict";
  const BOUND_MS = 120000, FIRST_MS = 1000, SLOWEST_MS = 5000, TIMEOUT_MS = 10000;
  const CONTACT = "Please contact the seller and give the order number.";
  // status: [tone, heading, text, final]
  const STATES = {
    pending: ["wait", "Waiting for the payment", "The payment for this order has not been confirmed yet. This page asks again by itself; you can leave it open."],
    paid: ["ok", "Paid", "Thank you. The payment has been confirmed and is recorded with your order.", true],
    partially_refunded: ["back", "Partly refunded", "This order was paid, and a part of the money was refunded.", true],
    refunded: ["back", "Refunded", "The payment for this order was refunded.", true],
    disputed: ["stop", "Payment in dispute", "The payment for this order was disputed with the bank or the card's issuer. The order is kept; the seller and the bank decide what becomes of it.", true],
    mismatched: ["stop", "This order needs a person", `A payment arrived that does not fit what was ordered. It is recorded, but it does not count as payment for this order. ${CONTACT}`, true],
    not_found: ["stop", "Order not found", "The shop has no order with this number. If you have paid, keep your receipt and contact the seller.", true],
    no_order: ["stop", "No order to show", "The address of this page names no order. If you have paid, your order is still kept by the shop.", true],
    unknown: ["stop", "Order recorded", `The shop knows this order, in a state this page has no words for. ${CONTACT}`],
    timeout: ["stop", "Not confirmed yet", "If you have paid, do not pay again: a payment reported later is still recorded. You can close this page. Keep the order number, and write to the shop if nothing follows.", true],
    unreachable: ["stop", "No answer from the shop", "This page could not find out the state of your order. That changes nothing about the order: it is kept by the shop. If you have paid, do not pay again. Keep the order number.", true],
  };
  const $ = (id) => document.getElementById(id);
  const api = String(window.POCKETSFLOW_API || "").replace(/\/+$/, "");
  const id = (new URLSearchParams(location.search).get("order_id") || "").trim();

  let active = false;    // still asking
  let answered = false;  // an answer about the order came since start()
  let spent = 0;         // ms of asking while visible, without the stretch since `since`
  let since = 0;
  let delay = FIRST_MS;
  let notBefore = 0;     // from Retry-After
  let timer = 0;
  let request = null;

  function show(status, changed = null) {
    const [tone, heading, text, final] = STATES[status];
    const main = $("order");
    if (main.dataset.status !== status) { // unchanged text is not announced again
      main.dataset.status = status;
      main.dataset.tone = tone;
      $("heading").textContent = heading;
      $("text").textContent = text;
      document.title = `${heading} · Your order`;
    }
    const time = changed ? new Date(changed) : null;
    if (time && !Number.isNaN(time.getTime())) {
      $("changed").dateTime = time.toISOString();
      $("changed").textContent = time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
      $("changed-row").hidden = false;
    }
    $("retry").hidden = !["timeout", "unreachable", "not_found"].includes(status);
    if (final) stop();
  }

  function note(text) {
    if ($("note").textContent !== text) $("note").textContent = text;
  }

  function left() {
    return BOUND_MS - spent - (performance.now() - since);
  }

  function halt() {
    clearTimeout(timer);
    if (request) request.abort();
    request = null;
  }

  function stop() {
    active = false;
    halt();
    note("");
  }

  function next(wait) {
    clearTimeout(timer);
    const held = Math.max(wait, notBefore - Date.now());
    timer = setTimeout(ask, Math.max(0, Math.min(held, left()))); // a longer Retry-After ends at the bound, unasked
  }

  function retryAfter(response) {
    const value = response.headers.get("Retry-After"); // shows across origins only if CORS exposes it
    if (!value) return 0;
    const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
    return Number.isFinite(ms) ? Math.max(0, ms) : 0;
  }

  async function ask() {
    if (left() <= 0) {
      if (answered && $("order").dataset.status === "unknown") { // still all that is known
        $("retry").hidden = false;
        return stop();
      }
      return show(answered ? "timeout" : "unreachable");
    }
    const mine = request = new AbortController();
    const limit = setTimeout(() => mine.abort(), TIMEOUT_MS);
    let response = null, body = null;
    try {
      response = await fetch(`${api}/orders/${encodeURIComponent(id)}`, { cache: "no-store", credentials: "omit", signal: mine.signal });
      body = JSON.parse(await response.text());
    } catch { /* no network, too slow, or not JSON: all are waited out */ }
    clearTimeout(limit);
    if (request !== mine) return; // stopped, or hidden meanwhile
    request = null;
    if (response && response.ok && body && typeof body.status === "string") {
      answered = true;
      note("");
      show(["pending", "paid", "partially_refunded", "refunded", "disputed", "mismatched"].includes(body.status) ? body.status : "unknown", body.updatedAt);
    } else if (response && response.status === 404) {
      show("not_found");
    } else {
      if (response) notBefore = Date.now() + retryAfter(response);
      note(response ? "The shop is busy. Asking again in a moment." : "No connection to the shop. Asking again in a moment.");
    }
    if (!active) return;
    next(delay);
    delay = Math.min(delay * 1.5, SLOWEST_MS);
  }

  function start() {
    active = true;
    answered = false;
    spent = 0;
    delay = FIRST_MS;
    since = performance.now();
    if (!document.hidden) next(0);
  }

  document.addEventListener("visibilitychange", () => {
    if (!active) return;
    if (document.hidden) {
      spent += performance.now() - since;
      halt();
    } else {
      since = performance.now();
      delay = FIRST_MS;
      next(0);
    }
  });

  $("retry").addEventListener("click", () => {
    $("retry").hidden = true;
    const main = $("order");
    main.dataset.status = "checking";
    main.dataset.tone = "wait";
    $("heading").textContent = "Checking your order";
    $("text").textContent = "One moment: asking the shop what it knows.";
    $("heading").focus(); // the button that had it is gone
    start();
  });

  if (!id) return show("no_order");
  $("number").textContent = id;
  $("facts").hidden = false;
  if (!api) return show("unreachable");
  start();
})();
