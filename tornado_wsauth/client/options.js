// The options of `connect`: their defaults, and what is wrong with a wrong one, said before anything is fetched.

const DEFAULTS = {
  tokenParam: "token",
  timeout: 10_000,
  retries: Infinity,
  retryInterval: 1_000,
  maxRetryInterval: 30_000,
  whenNotReady: "queue",
  maxQueue: 100,
  binaryType: "blob",
};

const FUNCTIONS = ["getJwt", "getToken"];
const HOOKS = ["onMessage", "onState", "onClose", "onStep", "decide"];
const NUMBERS = { timeout: 1, retries: 0, retryInterval: 0, maxRetryInterval: 0, maxQueue: 0 };
const CHOICES = { whenNotReady: ["queue", "throw"], binaryType: ["blob", "arraybuffer"] };
const OTHERS = ["url", "protocols", "signal", "WebSocket"];
const KNOWN = new Set([...FUNCTIONS, ...HOOKS, ...OTHERS, ...Object.keys(DEFAULTS)]);

/** Return the options, completed. Throws a `TypeError` that names the option and says what it should be. */
export function checkOptions(given) {
  if (typeof given !== "object" || given === null) throw wrong("options", "an object with url, getJwt and getToken");
  for (const name of Object.keys(given)) {
    if (!KNOWN.has(name)) throw new TypeError(`wsauth: there is no option ${name}; there are ${[...KNOWN].join(", ")}`);
  }
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const options = { WebSocket: globalThis.WebSocket, ...DEFAULTS, ...set };
  for (const name of FUNCTIONS) {
    if (typeof options[name] !== "function") throw wrong(name, "a function, called for each attempt", options[name]);
  }
  for (const name of HOOKS) {
    if (!["function", "undefined"].includes(typeof options[name])) throw wrong(name, "a function", options[name]);
  }
  for (const [name, least] of Object.entries(NUMBERS)) {
    if (!(typeof options[name] === "number" && options[name] >= least)) {
      throw wrong(name, `a number, ${least} or more; ${DEFAULTS[name]} is the default`, options[name]);
    }
  }
  for (const [name, choices] of Object.entries(CHOICES)) {
    const wanted = choices.map((choice) => `"${choice}"`).join(" or ");
    if (!choices.includes(options[name])) throw wrong(name, wanted, options[name]);
  }
  if (!isText(options.tokenParam) || options.tokenParam === "") throw wrong("tokenParam", 'text, as "token"');
  if (typeof options.WebSocket !== "function") throw wrong("WebSocket", "a class; there is no global one here");
  const { protocols = [], signal } = options;
  if (![protocols].flat().every(isText)) throw wrong("protocols", "text, or a list of texts");
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrong("signal", "that of an AbortController");
  if (typeof options.url !== "function") socketUrl(options.url);
  return options;
}

/** Return this address as a `URL` of a WebSocket: relative ones are the page's, `https:` becomes `wss:`. */
export function socketUrl(address) {
  if (!isText(address) && !(address instanceof URL)) throw wrong("url", 'text, as "/ws/chat", or a URL', address);
  let url;
  try {
    url = new URL(address, globalThis.location?.href);
  } catch {
    throw wrong("url", 'an address, as "/ws/chat" on a page and "wss://host/ws/chat" elsewhere', address);
  }
  url.protocol = url.protocol.replace(/^http/, "ws");
  if (!/^wss?:$/.test(url.protocol)) throw wrong("url", "a ws:, wss:, http: or https: address");
  url.hash = ""; // no WebSocket has one (RFC 6455 §3)
  return url;
}

function isText(value) {
  return typeof value === "string";
}

/** Only numbers are quoted: who mixes up two options may have a credential in the wrong place. */
function wrong(name, wanted, ...got) {
  const [found] = got.map((value) => `; got ${typeof value === "number" ? value : typeof value}`);
  return new TypeError(`wsauth: ${name} must be ${wanted}${found ?? ""}`);
}
