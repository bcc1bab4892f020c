// docs/browser.md
(() => {
  const P = (window.Pocketsflow ||= {});
  P.api ||= (document.currentScript ?? document.querySelector("script[data-api]"))?.dataset.api;
  if (P.checkout) return;
  const texts = (P.texts = {
    opening: "Opening the checkout...",
    again: "The shop is slow to answer. Trying again...",
    later: "The shop is busy. Please try again in {} seconds.",
    offline: "You seem to be offline. Please try again.",
    no_answer: "The shop cannot be reached. Please try again.",
    unavailable: "The checkout cannot be opened now ({}). Please try again.",
    refused: "The shop did not accept this order ({}).",
    discount_code_refused: "The discount code was not accepted.",
    challenge_failed: "The check against robots failed. Please try again.",
    safe: "No payment was started.",
    order: "Order number: ",
    changed: "Last change: ",
    check: "Check again",
    checking: ["Checking your order", "Asking the shop."],
    pending: ["Waiting for the payment", "Not confirmed yet. This page asks again by itself."],
    paid: ["Paid", "Thank you. The payment for this order is confirmed."],
    partially_refunded: ["Partly refunded", "A part of the payment for this order was refunded."],
    refunded: ["Refunded", "The payment for this order was refunded."],
    disputed: ["Payment in dispute", "The payment for this order was disputed."],
    mismatched: ["This order needs a person", "A payment was recorded that does not fit this order, which does not count as paid. Please contact the seller."],
    not_found: ["Order not found", "If you have paid, please contact the seller."],
    no_order: ["No order to show", "If you have paid, that changes nothing about your order."],
    unknown: ["Order recorded", "This page has no words for its state. Please contact the seller."],
    timeout: ["Not confirmed yet", "If you have paid, do not pay again: a payment reported later is still recorded. If nothing follows, please contact the seller."],
    unreachable: ["No answer from the shop", "That changes nothing about your order. If you have paid, do not pay again."],
    ...P.texts,
  });

  const PocketsflowError = (P.PocketsflowError = class extends Error {
    constructor(kind, { code, http, retryAfter }) {
      super(`${texts[texts[code]?.replace ? code : kind].replace("{}", retryAfter || code)} ${kind === "no_answer" ? "" : texts.safe}`);
      Object.assign(this, { code, status: http, retryAfter });
    }
  });

  const call = async (path, init) => {
    const answer = { http: 0, code: !P.api ? "not_connected" : navigator.onLine ? "no_answer" : "offline" };
    try {
      const response = await fetch(P.api.replace(/\/$/, "") + path, { credentials: "omit", signal: AbortSignal.timeout(1e4), ...init });
      answer.http = response.status;
      answer.code = "http_" + response.status;
      answer.retryAfter = Math.max(0, response.headers.get("Retry-After"));
      Object.assign(answer, await response.json());
    } catch {}
    return answer;
  };

  const STORE = "pocketsflow-checkout";
  let known = {}; // where storage is refused
  const intents = (change, gone = null) => {
    try { known = { ...JSON.parse(localStorage[STORE]) }; } catch {}
    for (const intent in known) if (known[intent]?.orderId === gone || !(known[intent]?.until > Date.now())) delete known[intent];
    change?.(known);
    try {
      delete localStorage[STORE];
      localStorage[STORE] = JSON.stringify(known);
    } catch {}
    return known;
  };

  P.checkout = async ({ email, discount, redirect = true, challengeToken, ...fields }, tell) => {
    fields.customerEmail ||= email;
    fields.discountCode ||= discount;
    for (const name in fields) fields[name] ||= undefined;
    fields.metadata ??= {};
    const intent = JSON.stringify([P.api, fields], Object.keys({ ...fields, ...fields.metadata }).sort());
    const take = async () => {
      const orderId = intents()[intent]?.orderId;
      if (orderId) await P.status(orderId).catch(() => {}); // forgets it unless pending
      return intents((all) => { all[intent] ??= { key: crypto.randomUUID(), until: Date.now() + 36e5 }; })[intent].key;
    };
    for (let key, wait = 1, waited = 0, failed = 0; ; wait *= 2) {
      key ??= await (navigator.locks?.request(STORE, { signal: AbortSignal.timeout(1e4) }, take).catch(take) ?? take());
      const answer = await call("/checkout", {
        method: "POST",
        headers: { "Content-Type": "application/json", "Idempotency-Key": key },
        body: JSON.stringify({ ...fields, challengeToken: challengeToken || undefined }),
      });
      const { http, code, retryAfter, orderId, sessionId, url, statusUrl } = answer;
      if (/^https:|^http:\/\/(localhost|127\.0\.0\.1)[:/]/.test(url)) {
        intents((all) => { all[intent] = { key, orderId, until: Date.now() + 36e5 }; });
        if (redirect) location.assign(url);
        return { orderId, sessionId, url, statusUrl };
      }
      if (code === "idempotency_key_reused") key = intents((all) => delete all[intent]) && null;
      const busy = /409|429/.test(http), refused = !busy && /^4/.test(http), pause = retryAfter || wait;
      waited += pause;
      if (waited > 30 || refused || code === "offline" || (!busy && ++failed > 2)) {
        throw new PocketsflowError(retryAfter ? "later" : refused ? "refused" : "unavailable", answer);
      }
      tell?.();
      await new Promise((done) => setTimeout(done, pause * 1e3));
    }
  };

  P.status = async (orderId) => {
    const answer = await call("/orders/" + encodeURIComponent(orderId)), { updatedAt } = answer;
    const found = answer.code === "order_not_found" ? "not_found" : answer.http === 200 && answer.status;
    if (!found) throw new PocketsflowError("no_answer", answer);
    if (found !== "pending") intents(null, orderId);
    return { orderId, status: texts[found]?.pop ? found : "unknown", updatedAt };
  };

  P.onStatus = (orderId, callback) => {
    let last = { orderId, status: "checking" }, left = 240, delay = 1e3, next = 0;
    const stop = () => { left = clearInterval(timer); };
    const tell = (state) => {
      last = { ...last, failing: false, ...state };
      if (!/checking|pending/.test(last.status)) stop();
      callback(last);
    };
    const tick = async () => {
      if (document.hidden) return;
      if (!--left) return tell({ status: last.updatedAt ? "timeout" : "unreachable" });
      if (Date.now() < next) return;
      next = Infinity;
      const state = await P.status(orderId).catch(({ retryAfter }) => ({ failing: true, retryAfter }));
      next = Date.now() + Math.max(delay, state.retryAfter * 1e3 || 0);
      delay = Math.min(delay * 1.5, 5e3);
      if (left) tell(state);
    };
    const timer = setInterval(tick, 500);
    tick();
    return stop;
  };

  const emit = (element, name, detail) => element.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  const live = (element) => Object.assign(element, { role: "status", ariaLive: "polite", ariaAtomic: "true" });

  let free; // ends a purchase
  addEventListener("pageshow", ({ persisted }) => persisted && free?.());
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-pf-sku]"), form = button?.form ?? button?.closest("form");
    if (!button || event.defaultPrevented) return;
    event.preventDefault();
    if (button.matches(":disabled,[aria-disabled=true]") || (form && !form.noValidate && !form.reportValidity())) return;
    free?.();
    const near = (name) => button.closest(`:has(${name})`)?.querySelector(name);
    let line = button.line ?? near('[data-pf-message=""]');
    if (!line) button.after((line = button.line = document.createElement("p")));
    live(line).dir = "auto";
    line.dataset.pfMessage ??= "own";
    const say = (message, kind = "info") => {
      line.textContent = message;
      line.dataset.pfKind = kind;
    };
    const mine = (free = (message = "", kind) => {
      say(message, kind);
      free = button.ariaBusy = button.ariaDisabled = null;
    });
    button.ariaBusy = button.ariaDisabled = "true"; // not disabled: focus stays
    say(texts.opening);
    try {
      const fields = { redirect: false, challengeToken: near('[name$="-response"]')?.value };
      const set = button.dataset, metadata = JSON.parse(set.pfMetadata ?? "{}");
      for (const name in set) if (/^pf/.test(name)) fields[name[2].toLowerCase() + name.slice(3)] = set[name];
      for (const [name, value] of new FormData(form ?? undefined)) {
        if (!value.length) continue;
        if (/^\w+$/.test(name)) fields[name] = value;
        else if (/^metadata/.test(name)) metadata[name.slice(9, -1)] = value;
      }
      const { url } = await P.checkout({ ...fields, metadata }, () => free === mine && say(texts.again));
      if (free !== mine) return;
      location.assign(url);
      setTimeout(() => free === mine && free(), 1e4);
    } catch (error) {
      if (free === mine) free(error.status >= 0 ? error.message : texts.unavailable.replace("{}", error.name), "error");
      emit(button, "pf-error", error);
    }
  });

  const define = () => customElements.define("pf-order-status", class extends HTMLElement {
    connectedCallback() {
      const id = this.getAttribute("order-id") ?? new URLSearchParams(location.search).get("order_id");
      const put = (name, tag, content) => {
        let element = this.querySelector(`[data-pf-${name}]`);
        if (!element) {
          this.appendChild(document.createElement("div")).append(texts[name] ?? "", (element = document.createElement(tag)));
          element.setAttribute("data-pf-" + name, "");
        }
        element.dir = "auto";
        if (element.textContent !== content) element.textContent = content;
        return element;
      };
      const tell = (state) => {
        this.setAttribute("status", state.status);
        const [title, text] = texts[state.status], heading = put("heading", "h2", title);
        put("text", "p", state.failing ? `${text} ${texts.again}` : text);
        if (id) put("order", "bdi", id);
        if (state.updatedAt) put("changed", "bdi", new Date(state.updatedAt).toLocaleString());
        const retry = put("retry", "button", texts.check);
        retry.hidden = !/timeout|unreach|not_found|unknown/.test(state.status);
        retry.onclick = () => {
          heading.tabIndex = -1;
          heading.focus();
          ask();
        };
        emit(this, "pf-status", state);
      };
      const ask = () => {
        tell({ status: id ? "checking" : "no_order" });
        if (id) this.stop = P.onStatus(id, tell);
      };
      live(this.querySelector("[role=status]") ?? this);
      ask();
    }
    disconnectedCallback() { this.stop?.(); }
  });
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", define) : define();
})();
