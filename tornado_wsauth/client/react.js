// React hooks around `Connection`, for React 18 and 19. What they promise stands in `react.d.ts`.

import { useCallback, useEffect, useRef, useState } from "react";
import { Connection, socketUrl as asSocketUrl } from "./wsauth.js";

const IDLE = { authState: "stopped", lastClose: null, session: null };
const STARTING = { ...IDLE, authState: "connecting" };

export function useAuthWebSocket({ enabled = true, user, ...options }) {
  const newest = useNewest(options);
  const connection = useRef(null);
  const [start, setStart] = useState(0); // one more for each time it is started again
  const [view, setView] = useState(enabled ? STARTING : IDLE);
  const [data, setData] = useState();

  useEffect(() => {
    if (!enabled) {
      setView(IDLE);
      return undefined;
    }
    let isMounted = true; // a connection that was replaced shows nothing more, its own end included
    const shown = (name) => (what, of) => {
      if (!isMounted) return;
      setView({ authState: of.state, lastClose: of.lastClose, session: of.session });
      newest.current[name]?.(what, of);
    };
    const made = new Connection({
      ...newest.current,
      ...callingNewest(newest),
      onState: shown("onState"),
      onStep: shown("onStep"),
      onClose: shown("onClose"),
      onMessage: (received, event) => {
        setData({ message: parsed(received), timestamp: Date.now() });
        newest.current.onMessage?.(received, event);
      },
    });
    connection.current = made;
    setView(STARTING);
    setData(undefined); // of the user before
    return () => {
      isMounted = false;
      made.disconnect();
    };
  }, [newest, start, enabled, user, JSON.stringify(options)]); // that is all of them but the functions

  const send = useCallback((value) => {
    try {
      connection.current.send(typeof value === "string" ? JSON.stringify(value) : value); // all else is JSON or bytes
      return true;
    } catch {
      return false;
    }
  }, []);
  const disconnect = useCallback(() => connection.current?.disconnect(), []);
  const reconnect = useCallback(() => {
    if (connection.current?.state === "waiting") connection.current.retryNow();
    else if (connection.current?.state === "stopped") setStart((count) => count + 1);
  }, []);

  return { send, data, readyState: view.authState === "ready", ...view, disconnect, reconnect };
}

export function useWebSocketLite({ socketUrl, protocol, retry = 3, retryInterval = 1500, initPayload, ...options }) {
  const address = useRef(null); // between getToken and url, of one attempt
  const { tokenParam = "token" } = options;
  const hasJwt = options.getJwt !== undefined;
  const { send, data, readyState } = useAuthWebSocket({
    ...options,
    url: socketUrl,
    protocols: protocol,
    retries: retry,
    retryInterval,
    ...(options.getToken === undefined ? tokenFromUrl(socketUrl, tokenParam, address) : {}),
    ...(hasJwt ? {} : { getJwt: jwtFromPayload(initPayload) }),
    onState: (state, connection) => {
      if (state === "ready" && hasJwt) greet(connection, initPayload);
      options.onState?.(state, connection);
    },
  });
  return { send, data, readyState };
}

function useNewest(value) {
  const newest = useRef(value);
  useEffect(() => {
    newest.current = value;
  });
  return newest;
}

/** Return functions that call those of the newest render. */
function callingNewest(newest) {
  const calling = (name) => (...given) => newest.current[name]?.(...given);
  const names = ["getJwt", "getToken", "decide", "url"].filter((name) => typeof newest.current[name] === "function");
  return Object.fromEntries(names.map((name) => [name, calling(name)]));
}

function jwtFromPayload(payload) {
  const tokenOf = (message) => {
    if (message?.type === "jwt" && typeof message.token === "string") return message.token;
    throw new TypeError('useWebSocketLite: give it getJwt, or initPayload {type: "jwt", token}, or a function for it');
  };
  if (typeof payload !== "function") tokenOf(payload);
  return async () => tokenOf(typeof payload === "function" ? await payload() : payload);
}

/** Return the options for a token that is in the URL: a text's is good once, a function's is a new one each time. */
function tokenFromUrl(socketUrl, tokenParam, address) {
  if (typeof socketUrl === "function") {
    return {
      getToken: async () => {
        address.current = asSocketUrl(await socketUrl());
        return address.current.searchParams.get(tokenParam);
      },
      url: () => address.current,
    };
  }
  const token = asSocketUrl(socketUrl).searchParams.get(tokenParam);
  if (!token) throw new TypeError(`useWebSocketLite: give it getToken, or a socketUrl with ${tokenParam}= in it`);
  const decide = ({ reaction }) => {
    if (reaction === "retry") {
      console.warn("useWebSocketLite: the token in socketUrl was good for one connection; getToken gets another");
    }
    return "stop";
  };
  return { getToken: () => token, decide };
}

function greet(connection, payload) {
  const value = typeof payload === "function" ? payload() : payload;
  if (typeof value?.then === "function") throw new TypeError("useWebSocketLite: beside getJwt, initPayload is no promise");
  if (value !== undefined && value?.type !== "jwt") connection.send(JSON.stringify(value));
}

function parsed(received) {
  if (typeof received !== "string") return received;
  try {
    return JSON.parse(received);
  } catch {
    return received;
  }
}
