// Types of pocketsflow-checkout.js: the global `Pocketsflow`, <pf-order-status> and the events.

/** What an order is, as far as the API tells. `not_found`: it has none with this id. `unknown`: a state newer than the script. */
type PocketsflowOrderStatus =
  | "pending" | "paid" | "partially_refunded" | "refunded" | "disputed" | "mismatched" | "not_found" | "unknown";

/** A name of the catalogue, or, for a stack without one, Pocketsflow's id of the product. */
type PocketsflowProduct = { sku: string; productId?: undefined } | { productId: string; sku?: undefined };

type PocketsflowCheckoutRequest = PocketsflowProduct & {
  email?: string;
  discountCode?: string;
  /** At most 20 keys; keys and values are strings. */
  metadata?: Record<string, string>;
  /** Absolute, on an allowed origin; else the stack's own. */
  successUrl?: string;
  cancelUrl?: string;
  /** From a challenge widget, where the stack asks for one. Good for one call. */
  challengeToken?: string;
  /** false: the page opens `url` itself. */
  redirect?: boolean;
};

interface PocketsflowCheckout {
  orderId: string;
  sessionId: string;
  /** Where the buyer pays. */
  url: string;
  statusUrl: string;
}

interface PocketsflowOrder {
  orderId: string;
  status: PocketsflowOrderStatus;
  /** ISO 8601; absent for `not_found`. */
  updatedAt?: string;
}

/** `checking`: no answer yet. `timeout`: still pending after two minutes. `unreachable`: no answer in two minutes. */
interface PocketsflowOrderNews extends Omit<PocketsflowOrder, "status"> {
  status: PocketsflowOrderStatus | "checking" | "timeout" | "unreachable";
  /** The last request had no answer; it is asked again. */
  failing: boolean;
}

/** `message` is for the buyer. */
interface PocketsflowError extends Error {
  /** The API's, or `offline`, `no_answer`, `not_connected`, `http_…`. */
  readonly code: string;
  /** Of HTTP; 0: no answer. */
  readonly status: number;
  /** Seconds; 0 or absent: not told. */
  readonly retryAfter?: number;
}

type PocketsflowStateTexts = Record<
  PocketsflowOrderNews["status"] | "no_order",
  [heading: string, text: string]
>;

type PocketsflowMessages = Record<
  | "opening" | "again" | "later" | "offline" | "no_answer" | "unavailable" | "refused" | "safe"
  | "discount_code_refused" | "challenge_failed" | "order" | "changed" | "check",
  string
>;

/** Any error code of the API may have a text as well; `{}` in it is the code, or the seconds of Retry-After. */
type PocketsflowTexts = PocketsflowStateTexts & PocketsflowMessages & { [code: string]: string | [string, string] };

interface PocketsflowApi {
  /** Address of the API; set from `data-api`. */
  api: string;
  texts: PocketsflowTexts;
  /** One order per intent: the same request within an hour, from any tab, is the same order until that is paid. */
  checkout(request: PocketsflowCheckoutRequest): Promise<PocketsflowCheckout>;
  status(orderId: string): Promise<PocketsflowOrder>;
  /** Calls back after each answer until the state is final, or for two minutes of being visible. Returns what stops it. */
  onStatus(orderId: string, callback: (news: PocketsflowOrderNews) => void): () => void;
  readonly PocketsflowError: { readonly prototype: PocketsflowError; [Symbol.hasInstance](value: unknown): value is PocketsflowError };
}

interface HTMLElementEventMap {
  /** From a button whose checkout was not opened. */
  "pf-error": CustomEvent<PocketsflowError | Error>;
  /** From <pf-order-status>, after each answer. */
  "pf-status": CustomEvent<{ status: PocketsflowOrderNews["status"] | "no_order"; updatedAt?: string; failing?: boolean }>;
}

declare var Pocketsflow: PocketsflowApi;

interface Window {
  /** Before the script has come: what the page sets for it. */
  Pocketsflow: PocketsflowApi;
}
