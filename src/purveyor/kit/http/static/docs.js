// Starts Swagger UI on /docs. A separate file, because the page allows no inline scripts.
"use strict";

const base = new URL("..", document.currentScript.src);
const dark = matchMedia("(prefers-color-scheme: dark)");
const followColorScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followColorScheme);
followColorScheme();

SwaggerUIBundle({
  url: new URL("openapi.json", base).href,
  dom_id: "#swagger",
  presets: [SwaggerUIBundle.presets.apis],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  tryItOutEnabled: true,
  validatorUrl: null, // no requests to the public validator
});
