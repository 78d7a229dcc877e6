import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// One folder that the service serves as it is: nothing inline (the service's policy forbids it), nothing from elsewhere.
export default defineConfig({
  build: {
    outDir: "../src/callus/service/web",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 4096, // the viewer, loaded only where a study is looked at
    reportCompressedSize: false,
  },
  resolve: { alias: { xmlbuilder2: fileURLToPath(new URL("src/without.ts", import.meta.url)) } },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  server: { proxy: { "/api": "http://127.0.0.1:8080" } },
});
