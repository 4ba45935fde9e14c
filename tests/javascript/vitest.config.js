import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

const client = [
  { find: /^tornado-wsauth$/, replacement: here("../../tornado_wsauth/client/wsauth.js") },
  { find: /^tornado-wsauth\/react$/, replacement: here("../../tornado_wsauth/client/react.js") },
];
// The client stands outside of this folder, and so finds no node_modules by itself.
const reactOf = (suffix) =>
  ["react", "react-dom"].map((name) => ({
    find: new RegExp(`^${name}$`),
    replacement: here(`node_modules/${name}${suffix}/index.js`),
  }));

const page = {
  environment: "./page_environment.js",
  environmentOptions: { jsdom: { url: "http://localhost:3000/page" } },
};
const hooks = { ...page, include: ["hooks/*.test.js"] };

export default defineConfig({
  test: {
    globalSetup: "global_setup.js",
    maxWorkers: 2,
    testTimeout: 10_000,
    restoreMocks: true,
    unstubGlobals: true,
    projects: [
      {
        resolve: { alias: client },
        test: { name: "client", include: ["client/*.test.js"], environment: "node" },
      },
      {
        resolve: { alias: client },
        test: { name: "page", include: ["page/*.test.js"], ...page },
      },
      {
        resolve: { alias: [...client, ...reactOf("-18")] },
        test: { name: "react 18", setupFiles: ["react_18.js"], provide: { react: 18 }, ...hooks },
      },
      {
        resolve: { alias: [...client, ...reactOf("")] },
        test: { name: "react 19", provide: { react: 19 }, ...hooks },
      },
    ],
  },
});
