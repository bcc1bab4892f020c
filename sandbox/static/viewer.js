// The document, shown by Swagger UI, with this sandbox as its only server: "Try it out" stays on this origin.
"use strict";

const here = { url: location.origin, description: "this sandbox" };

SwaggerUIBundle({
  url: "/_sandbox/openapi.yaml",
  dom_id: "#viewer",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [{ statePlugins: { spec: { wrapActions: { updateJsonSpec: (update) => (spec) => update({ ...spec, servers: [here] }) } } } }],
});
