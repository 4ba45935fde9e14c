"""Black-box tests of the browser's client and hooks, with Vitest, against real Tornado applications."""
