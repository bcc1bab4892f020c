// docs/connectors/membership.md
(() => {
  const P = (window.Pocketsflow ||= {});
  const api = document.currentScript.dataset.api.replace(/\/$/, "");
  const STORE = "pocketsflow-members"; // of this tab: it ends with it
  let kept = {};
  try { kept = JSON.parse(sessionStorage[STORE] ?? "{}"); } catch {}
  const claims = (token) => JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
  const keep = (answer) => {
    const { iat, exp } = answer ? claims(answer.token) : {};
    // By the clock of this machine, which need not be right.
    kept = answer ? { ...kept, ...answer, until: Date.now() + 1e3 * (exp - iat) } : {};
    try { sessionStorage[STORE] = JSON.stringify(kept); } catch {}
  };

  const call = async (path, init) => {
    try {
      const response = await fetch(api + path, { credentials: "omit", signal: AbortSignal.timeout(1e4), ...init });
      const wait = Number(response.headers.get("Retry-After"));
      return { wait, http: response.status, ...(await response.json()) };
    } catch {
      return { http: 0 };
    }
  };
  const post = (path, body, headers) =>
    call(path, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) });

  // An order id that has just been paid, or a link's code, for a session: true, or the code of what was wrong.
  const enter = async (body) => {
    const same = { "Idempotency-Key": crypto.randomUUID() };
    for (const until = Date.now() + 12e4; ; ) {
      const { wait, http, code, ...answer } = await post("/access", body, same);
      if (http === 201) return keep(answer), true;
      if (![0, 409, 429, 503].includes(http) || Date.now() > until) return code ?? "no_answer";
      await new Promise((resolve) => setTimeout(resolve, 1e3 * (wait || 2)));
    }
  };

  // A token that is good for half a minute at least; null for who is not let in.
  P.memberToken = async () => {
    if (kept.until - Date.now() > 3e4) return kept.token;
    if (!kept.session) return null;
    const { wait, http, ...answer } = await call("/access", { headers: { Authorization: `Bearer ${kept.session}` } });
    if (http === 200) keep(answer);
    if (http === 401) keep(null);
    return answer.token ?? null;
  };

  const TEXTS = {
    waiting: "Waiting for the payment to be confirmed.",
    sent: "If this address is a member's, a link is on its way to it.",
    exchange_over: "This link or order was used before, or is too old. Ask for a new link.",
    no_access: "Nothing that you bought gives access at the moment.",
    other: "Nobody can be let in at the moment. Please try again.",
  };

  const show = async (page) => {
    const find = (name) => page.querySelector(`[data-members-${name}]`);
    const say = (name) => (find("message").textContent = TEXTS[name] ?? (name ? TEXTS.other : ""));
    const turn = async () => {
      const token = await P.memberToken();
      const rooms = [];
      for (const level of token ? kept.levels : []) {
        const response = await fetch(`members/${level}.json`, { headers: { Authorization: `Bearer ${token}` } });
        if (response.ok) rooms.push(await response.json());
      }
      find("rooms").replaceChildren(
        ...rooms.map(({ title, text }) => {
          const room = document.createElement("article");
          room.append(Object.assign(document.createElement("h2"), { textContent: title }));
          room.append(Object.assign(document.createElement("p"), { textContent: text }));
          return room;
        }),
      );
      find("in").hidden = !token;
      find("out").hidden = !!token;
    };
    find("out").addEventListener("submit", async (event) => {
      event.preventDefault();
      const { http, code } = await post("/access/link", { email: new FormData(event.target).get("email") });
      say(http === 202 ? "sent" : code ?? "other");
    });
    find("leave").addEventListener("click", () => {
      if (kept.session) post("/access", { leave: kept.session }); // whoever else has it has nothing any more
      keep(null);
      turn();
    });
    const code = new URLSearchParams(location.hash.slice(1)).get("access");
    const order = new URLSearchParams(location.search).get("order_id");
    history.replaceState(null, "", location.pathname); // neither is left in the address
    if (order) say("waiting");
    const outcome = code ? await enter({ code }) : order ? await enter({ orderId: order }) : true;
    say(outcome === true ? "" : outcome);
    turn();
  };
  const page = () => document.querySelector("[data-members]");
  document.addEventListener("DOMContentLoaded", () => page() && show(page()));
})();
