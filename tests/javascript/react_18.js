// Whoever asks for "react" or "react-dom" in this project, the testing library among them, gets version 18.
import { registerHooks } from "node:module";

registerHooks({
  resolve(specifier, context, nextResolve) {
    return nextResolve(specifier.replace(/^(react|react-dom)(?=$|\/)/, "$1-18"), context);
  },
});
