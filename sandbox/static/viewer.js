// The document, shown by Swagger UI, with this sandbox as its only server: "Try it out" stays on this origin.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
follow();
dark.addEventListener("change", follow);

const here = { url: location.origin, description: "this sandbox" };
const served = { statePlugins: { spec: { wrapActions: { updateJsonSpec: (update) => (document) => update({ ...document, servers: [here] }) } } } };

SwaggerUIBundle({
  url: "/_sandbox/openapi.yaml",
  dom_id: "#viewer",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [served],
});
