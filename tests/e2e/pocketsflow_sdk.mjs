// Pocketsflow's own SDK against the server at POCKETSFLOW_URL: the fake must be what the SDK expects.
// Prints a line for each step and ends with a non-zero code at the first that fails.
import assert from "node:assert/strict";
import { Pocketsflow, PocketsflowError } from "pocketsflow";

const url = process.env.POCKETSFLOW_URL;
assert.ok(url, "POCKETSFLOW_URL is not set");
const client = new Pocketsflow({ apiKey: "pk_test_sandbox", baseUrl: url, timeout: 20_000 });
const unknown = "0".repeat(24);
const id = /^[0-9a-f]{24}$/;
const run = `sdk-${Date.now()}`; // the server may hold orders of others

async function step(name, check) {
  await check();
  console.log(`ok ${name}`);
}

async function pay(session) {
  const response = await fetch(`${url}/_sandbox/sessions/${session.id}/pay`, { method: "POST" });
  assert.equal(response.status, 200);
  return (await response.json()).orderId;
}

function failsWith(status) {
  return (error) => {
    assert.ok(error instanceof PocketsflowError, String(error));
    assert.equal(error.status, status);
    assert.ok(error.message && error.message !== "Request failed", "the error has no message");
    return true;
  };
}

await step("users.me", async () => {
  const user = await client.users.me();
  assert.match(user._id, id);
  assert.equal(user.testMode, true);
});

let product;
await step("products.list, products.get", async () => {
  const products = await client.products.list();
  product = products.find((each) => each.type === "one-time");
  assert.ok(product, "no one-time product");
  assert.equal(typeof product.price, "number");
  assert.deepEqual(await client.products.get(product._id), product);
});

await step("products.create, update, delete", async () => {
  const made = await client.products.create({ name: run, price: 29.99 });
  assert.match(made._id, id);
  assert.equal(made.price, 29.99);
  const updated = await client.products.update(made._id, { price: 0.3 });
  assert.deepEqual([updated.name, updated.price], [run, 0.3]);
  assert.ok((await client.products.delete(made._id)).message);
  await assert.rejects(client.products.get(made._id), failsWith(404));
});

const orders = [];
await step("checkout.create, paid three times", async () => {
  for (const number of [1, 2, 3]) {
    const session = await client.checkout.create({
      productId: product._id,
      successUrl: "https://shop.example/thank-you",
      cancelUrl: "https://shop.example/cart",
      customerEmail: `${run}@example.com`,
      metadata: { run, number },
    });
    assert.match(session.id, /^cs_/);
    assert.ok(URL.canParse(session.url));
    orders.push(await pay(session));
  }
  assert.equal(new Set(orders).size, 3);
});

await step("checkout.create refuses what it must", async () => {
  const urls = { successUrl: "https://shop.example/", cancelUrl: "https://shop.example/" };
  await assert.rejects(client.checkout.create({ productId: unknown, ...urls }), failsWith(404));
  await assert.rejects(client.checkout.create({ productId: product._id, ...urls, successUrl: "/here" }), failsWith(400));
});

await step("orders.list, page by page", async () => {
  const seen = new Set();
  let page = 0;
  let more = true;
  while (more) {
    page += 1;
    assert.ok(page < 100, "the pages do not end");
    const { orders: rows, pagination } = await client.orders.list({ page, pageSize: 2, productId: product._id });
    assert.equal(pagination.currentPage, page);
    assert.equal(pagination.pageSize, 2);
    assert.ok(rows.length <= 2 && pagination.totalCount >= 3);
    rows.forEach((row) => seen.add(row._id));
    more = pagination.hasMore;
  }
  orders.forEach((each) => assert.ok(seen.has(each), `${each} is on no page`));
});

await step("orders.list within dates", async () => {
  const hour = 3_600_000;
  const order = await client.orders.get(orders[0]);
  const at = (offset) => new Date(Date.parse(order.createdAt) + offset).toISOString();
  const within = await client.orders.list({ startDate: at(-hour), endDate: at(hour), pageSize: 100 });
  assert.ok(within.orders.some((row) => row._id === orders[0]));
  const before = await client.orders.list({ endDate: at(-hour), pageSize: 100 });
  assert.ok(before.orders.every((row) => row._id !== orders[0]));
});

await step("orders.get", async () => {
  const order = await client.orders.get(orders[1]);
  assert.equal(order._id, orders[1]);
  assert.equal(order.productId, product._id);
  assert.equal(order.buyerEmail, `${run}@example.com`);
  assert.equal(order.grossAmount, product.price);
  assert.deepEqual(order.metadata, { run, number: 2 });
  assert.deepEqual([order.isRefunded, order.isDisputed, order.testMode], [false, false, true]);
  await assert.rejects(client.orders.get(unknown), failsWith(404));
});

await step("refunds.create, list, get", async () => {
  const part = await client.refunds.create({ orderId: orders[0], amount: 0.1, reason: "a scratch" });
  assert.equal(part.amount, 0.1);
  assert.equal(part.status, "completed");
  assert.equal((await client.orders.get(orders[0])).isRefunded, false);
  await assert.rejects(client.refunds.create({ orderId: orders[0], amount: product.price }), failsWith(400));
  await client.refunds.create({ orderId: orders[0] });
  assert.equal((await client.orders.get(orders[0])).isRefunded, true);
  assert.equal((await client.refunds.list()).filter((each) => each.orderId === orders[0]).length, 2);
  assert.deepEqual(await client.refunds.get(part._id), part);
  await assert.rejects(client.refunds.get(unknown), failsWith(404));
});

await step("webhooks.create, list, get, update, test, delete", async () => {
  const made = await client.webhooks.create({ url: "http://127.0.0.1:9/webhook", events: ["order.completed"] });
  assert.match(made.secret, /^whsec_[0-9a-f]{32}$/);
  const listed = (await client.webhooks.list()).find((each) => each._id === made._id);
  assert.ok(listed && !("secret" in listed), "the secret is shown again");
  assert.ok(!("secret" in (await client.webhooks.get(made._id))));
  const updated = await client.webhooks.update(made._id, { active: false, events: ["order.refunded"] });
  assert.deepEqual([updated.active, updated.events, updated.url], [false, ["order.refunded"], made.url]);
  assert.ok((await client.webhooks.test(made._id)).message);
  assert.ok((await client.webhooks.delete(made._id)).message);
  await assert.rejects(client.webhooks.get(made._id), failsWith(404));
});

await step("a wrong key is refused", async () => {
  const stranger = new Pocketsflow({ apiKey: "pk_test_wrong", baseUrl: url });
  await assert.rejects(stranger.users.me(), failsWith(401));
});
