import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

const SERVED_BY_PYTHON = ["/login", "/jwt", "/logout", "/ws", "/demo", "/config.json"]; // /wsauth begins with /ws

// EXAMPLE_PORT says where the Python server listens, for `npm run dev`.
export default defineConfig(({ mode }) => {
  const target = `http://127.0.0.1:${loadEnv(mode, ".", "EXAMPLE_").EXAMPLE_PORT ?? 8888}`;
  return {
    plugins: [react()],
    // The library's client lies outside of this folder, and there is no React beside it.
    resolve: { dedupe: ["react", "react-dom"] },
    build: {
      modulePreload: { polyfill: false }, // the page's Content-Security-Policy allows nothing inline,
      assetsInlineLimit: 0, // and no data: URL either
    },
    server: {
      fs: { allow: [".", "../../tornado_wsauth/client"] },
      // Without changeOrigin: the server compares the page's Origin with the Host that the browser asked for.
      proxy: Object.fromEntries(SERVED_BY_PYTHON.map((path) => [path, { target, ws: true }])),
    },
  };
});
