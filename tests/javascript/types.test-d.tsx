// The declarations, used as a page uses them. What must not compile is marked; tsc fails if it does.
import {
  connect, Connection, describeClose, LoggedOut, NotReady, socketUrl, Stopped, tokenFrom, TryLater,
  type Close, type ConnectOptions, type Outgoing, type Reaction, type Session, type State, type Step,
} from "tornado-wsauth";
import { useAuthWebSocket, useWebSocketLite, type Data } from "tornado-wsauth/react";

interface News {
  type: "news";
  text: string;
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;

/** Compiles where the two types are the same. */
function same<A, B>(..._proof: Equal<A, B> extends true ? [] : [never]): void {}

const working: ConnectOptions = {
  url: () => Promise.resolve(new URL("wss://app.example/ws/chat")),
  getJwt: async ({ signal }) => (await fetch("/login/jwt", { signal })).text(),
  getToken: tokenFrom("/ws/token", { credentials: "include", headers: { "X-XSRFToken": "x" } }),
  protocols: ["chat"],
  timeout: 5_000,
  retries: Infinity,
  whenNotReady: "throw",
  binaryType: "arraybuffer",
  signal: AbortSignal.timeout(1_000),
  WebSocket,
  onMessage: (data: News, event) => console.log(data.text, event.lastEventId),
  onState: (state, connection) => state === "ready" && connection.send({ subscribe: "news" }),
  onClose: ({ code, words, retryIn }) => console.log(code?.toFixed(), words.trim(), retryIn?.toFixed()),
  onStep: (step) => same<typeof step, Step>(),
  decide: (close) => (close.reason === "restart" ? "retry" : undefined),
};

export async function core(): Promise<void> {
  const connection = await connect(working);
  same<typeof connection, Connection>();
  same<typeof connection.state, State>();
  same<typeof connection.session, Session | null>();
  same<typeof connection.lastClose, Close | null>();
  same<typeof connection.unsent, readonly Outgoing[]>();
  connection.send("text");
  connection.send(new Uint8Array([1]));
  connection.send(new Blob([]));
  connection.send({ any: ["object"] });
  const session: Session = await connection.renew();
  session.userId.toUpperCase();
  const close: Close = await connection.stopped;
  same<typeof close.code, number | null>();
  same<typeof close.reaction, Reaction>();
  same<Awaited<typeof connection.ready>, Connection>();
  connection.retryNow();
  connection.disconnect();
  describeClose(null, "token_unavailable").trim();
  socketUrl(new URL("https://app.example/")).searchParams.append("room", "1");
  new TryLater("busy", 5).retryAfter.toFixed();
  new Connection(working).ready.catch((error: unknown) => error instanceof Stopped && error.close.words);
  throw Math.random() > 0.5 ? new LoggedOut("nobody") : new NotReady("queue");
}

export async function mistakes(connection: Connection): Promise<void> {
  // @ts-expect-error a connection needs credentials
  new Connection({ url: "/ws" });
  // @ts-expect-error a JWT is fetched for each attempt
  new Connection({ ...working, getJwt: "a.b.c" });
  // @ts-expect-error a token is text
  new Connection({ ...working, getToken: () => 7 });
  // @ts-expect-error milliseconds are a number
  new Connection({ ...working, timeout: "10s" });
  // @ts-expect-error there are two ways
  new Connection({ ...working, whenNotReady: "drop" });
  // @ts-expect-error there is no such option
  new Connection({ ...working, retryDelay: 5 });
  // @ts-expect-error a reaction is one of two
  new Connection({ ...working, decide: () => "wait" });
  // @ts-expect-error a number is no message
  connection.send(7);
  // @ts-expect-error nothing is no message
  connection.send(undefined);
  // @ts-expect-error only the connection itself changes its state
  connection.state = "ready";
  // @ts-expect-error what is unsent is read only
  connection.unsent.push("x");
  // @ts-expect-error there may be no session
  connection.session.userId;
  // @ts-expect-error it says after how many seconds
  new TryLater("busy");
  // @ts-expect-error there are five states
  if (connection.state === "open") throw new Error();
  // @ts-expect-error a close's code may be null
  (await connection.stopped).code.toFixed();
}

export function Page({ user }: { user: string | null }) {
  const { send, data, readyState, authState, lastClose, session, disconnect, reconnect } = useAuthWebSocket<News>({
    ...working,
    url: "/ws/chat",
    enabled: user !== null,
    user,
  });
  same<typeof data, Data<News> | undefined>();
  same<typeof readyState, boolean>();
  same<typeof authState, State>();
  const sent: boolean = send({ text: "hello" });
  return (
    <main onClick={disconnect} onDoubleClick={reconnect}>
      {sent} {data?.message.text} {data?.timestamp.toFixed()} {lastClose?.words} {session?.userId}
    </main>
  );
}

export function Lite({ jwt, token }: { jwt: string; token: string }) {
  const { send, data, readyState } = useWebSocketLite<News>({
    socketUrl: `/ws/chat?token=${token}`,
    protocol: "chat",
    retry: 3,
    retryInterval: 1_500,
    initPayload: async () => ({ type: "jwt", token: jwt }),
  });
  same<ReturnType<typeof send>, boolean>();
  return <p onClick={() => send("hello")}>{readyState ? data?.message.text : null}</p>;
}

export function Mistaken() {
  // @ts-expect-error a socket's address is needed
  useWebSocketLite({ retry: 3 });
  // @ts-expect-error it is called socketUrl here
  useWebSocketLite({ url: "/ws", socketUrl: "/ws" });
  // @ts-expect-error the number of retries is a number
  useWebSocketLite({ socketUrl: "/ws", retry: "3" });
  // @ts-expect-error getToken is needed
  useAuthWebSocket({ url: "/ws", getJwt: () => "a.b.c" });
  // @ts-expect-error the end of a hook's connection is its component's
  useAuthWebSocket({ ...working, signal: new AbortController().signal });
  const { data } = useAuthWebSocket<News>(working as Omit<ConnectOptions, "signal">);
  // @ts-expect-error there may be no message yet
  data.message;
  // @ts-expect-error news have no author
  return <p>{data?.message.author}</p>;
}
