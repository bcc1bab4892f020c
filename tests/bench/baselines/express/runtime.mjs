// Lambda's side of a Node function, for an emulator that has none: `node runtime.mjs MODULE` imports MODULE and has its
// `handler` answer one event after the other (docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;
const agent = new http.Agent({ keepAlive: true });

function call(method, where, body) {
  return new Promise((resolve, reject) => {
    const request = http.request(`${api}/${where}`, { method, agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(parts).toString() }));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body === undefined ? body : JSON.stringify(body));
  });
}

const told = (error) => ({ errorType: error.name, errorMessage: error.message, stackTrace: [] });

let handler;
try {
  ({ handler } = await import(pathToFileURL(path.resolve(process.argv[2])).href));
} catch (error) {
  await call("POST", "init/error", told(error));
  throw error;
}

for (;;) {
  const { headers, body } = await call("GET", "invocation/next");
  const id = headers["lambda-runtime-aws-request-id"];
  const deadline = Number(headers["lambda-runtime-deadline-ms"]);
  const context = {
    awsRequestId: id,
    callbackWaitsForEmptyEventLoop: false,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
  try {
    await call("POST", `invocation/${id}/response`, await handler(JSON.parse(body), context));
  } catch (error) {
    await call("POST", `invocation/${id}/error`, told(error));
  }
}
