// Drop-in checkout: every <button data-sku="…"> on the page buys that sku; messages go to [data-checkout-message].
// Needs config.js before it. Prices and products are the server's: this script sends a sku, nothing else that counts.
(() => {
  "use strict";
  const TIMEOUT_MS = 25000;    // one attempt
  const LONGEST_WAIT_S = 30;   // a longer Retry-After is told to the buyer instead of waited for
  const message = document.querySelector("[data-checkout-message]");
  const buttons = [...document.querySelectorAll("button[data-sku]")];
  const labels = new Map(buttons.map((button) => [button, button.textContent]));
  const memory = {};           // for browsers that refuse sessionStorage
  let current = null;          // AbortController of the purchase under way

  class Refused extends Error {} // its message is for the buyer

  function say(text, kind = "info", link = null) {
    if (!message) return;
    message.dataset.kind = kind;
    message.textContent = text;
    if (!link) return;
    const a = document.createElement("a");
    a.href = link;
    a.textContent = "Continue to the checkout";
    message.append(" ", a);
  }

  function release() {
    for (const button of buttons) {
      button.disabled = false;
      button.removeAttribute("aria-busy");
      button.textContent = labels.get(button);
    }
  }

  function uuid() {
    if (crypto.randomUUID) return crypto.randomUUID(); // absent on http pages that are not localhost
    const b = crypto.getRandomValues(new Uint8Array(16));
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    const hex = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }

  // One key for one intent to buy: it outlives a reload and a failed attempt, so that those make no second order.
  function keyFor(sku, renew = false) {
    const name = `checkout-key:${sku}`;
    let key = memory[name];
    try { key = sessionStorage.getItem(name) || key; } catch { /* storage is blocked */ }
    if (!key || renew) key = uuid();
    memory[name] = key;
    try { sessionStorage.setItem(name, key); } catch { /* storage is blocked */ }
    return key;
  }

  function forgetKey(sku) {
    delete memory[`checkout-key:${sku}`];
    try { sessionStorage.removeItem(`checkout-key:${sku}`); } catch { /* storage is blocked */ }
  }

  // Seconds or a date (RFC 9110, 10.2.3). Null when absent: across origins it shows only if CORS exposes it.
  function retryAfter(response) {
    const value = response && response.headers.get("Retry-After");
    if (!value) return null;
    const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
    return Number.isFinite(seconds) ? Math.max(0, seconds) : null;
  }

  function pause(seconds, signal) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, seconds * 1000);
      signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
    });
  }

  async function post(api, sku, signal) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    const timer = setTimeout(stop, TIMEOUT_MS);
    signal.addEventListener("abort", stop, { once: true });
    try {
      const response = await fetch(`${api}/checkout`, {
        method: "POST",
        credentials: "omit",
        headers: { "Content-Type": "application/json", "Idempotency-Key": keyFor(sku) },
        body: JSON.stringify({
          sku,
          successUrl: new URL("thank-you.html", location.href).href,
          cancelUrl: new URL("cancel.html", location.href).href,
        }),
        signal: attempt.signal,
      });
      const text = await response.text();
      let body = null;
      try { body = JSON.parse(text); } catch { /* a gateway's error page */ }
      return { response, body: body || {} };
    } catch (error) {
      if (signal.aborted) throw error;
      return { response: null, body: {} }; // no network, no CORS, or too slow: the browser does not tell which
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    }
  }

  function checked(url) {
    let parsed;
    try { parsed = new URL(url); } catch { parsed = null; }
    const loopback = parsed && /^(localhost|127(\.\d+){3}|\[::1\])$/.test(parsed.hostname);
    if (parsed && (parsed.protocol === "https:" || (parsed.protocol === "http:" && loopback))) return parsed.href;
    throw new Refused("The shop sent no safe address for the checkout, so it was not opened. Nothing was charged.");
  }

  async function openCheckout(api, sku, signal) {
    let failures = 0, waits = 0, renewed = false;
    for (;;) {
      const { response, body } = await post(api, sku, signal);
      if (signal.aborted) throw signal.reason;
      if (response && response.ok) return checked(body.url);
      const status = response ? response.status : 0;
      let wait = retryAfter(response);
      if (status === 409 && body.code === "idempotency_key_reused" && !renewed) {
        renewed = true; // the key belongs to another request, from before an edit of this page
        keyFor(sku, true);
        continue;
      }
      if (status === 429 || (status === 409 && body.code === "in_progress")) {
        if (++waits > 5) throw new Refused("The shop is still busy. Please try again in a minute; you were not charged.");
        wait = wait ?? Math.min(2 ** (waits - 1), 8);
      } else if (status === 0 || status >= 500) {
        if (++failures > 2) {
          throw new Refused(status
            ? "The checkout cannot be opened at the moment. You were not charged; please try again later."
            : "The shop cannot be reached. Please check your connection and try again; you were not charged.");
        }
        wait = wait ?? failures;
      } else {
        const code = /^[a-z0-9_.-]{1,40}$/.test(body.code) ? body.code : `http ${status}`;
        throw new Refused(`The shop did not accept this order (${code}). You were not charged.`);
      }
      if (wait > LONGEST_WAIT_S) {
        throw new Refused(`The shop is busy. Please try again in about ${wait < 90 ? "a minute" : `${Math.ceil(wait / 60)} minutes`}; you were not charged.`);
      }
      say(status ? "The shop is busy. Trying again…" : "The shop did not answer. Trying again…");
      await pause(wait + Math.random() * 0.25, signal);
    }
  }

  async function buy(button) {
    if (current) return; // a second click on the way
    const purchase = current = new AbortController();
    const focused = document.activeElement === button;
    for (const other of buttons) other.disabled = true;
    button.setAttribute("aria-busy", "true");
    button.textContent = "Opening checkout…";
    say("");
    try {
      const api = String(window.POCKETSFLOW_API || "").replace(/\/+$/, "");
      if (!api) throw new Refused("This shop is not connected yet: config.js names no backend.");
      const url = await openCheckout(api, button.dataset.sku, purchase.signal);
      location.assign(url);
      forgetKey(button.dataset.sku); // the next click is a new intent
      say("Taking you to the checkout.", "info", url); // the link is for a navigation that was stopped
    } catch (error) {
      if (purchase.signal.aborted) return; // the page was left and came back: see pageshow
      current = null;
      release();
      if (focused) button.focus(); // a disabled button loses it
      say(error instanceof Refused ? error.message : "Something went wrong on this page. You were not charged.", "error");
      if (!(error instanceof Refused)) throw error;
    }
  }

  for (const button of buttons) button.addEventListener("click", () => buy(button));

  // Back from the checkout, out of the back/forward cache (or a reload that kept the button disabled).
  addEventListener("pageshow", (event) => {
    if (!event.persisted && current) return;
    if (current) current.abort();
    current = null;
    release();
    if (event.persisted) say("");
  });
})();
