import "./pocketsflow-checkout.js";

export default globalThis.Pocketsflow;
export const { checkout, status, onStatus, texts, PocketsflowError } = globalThis.Pocketsflow;
