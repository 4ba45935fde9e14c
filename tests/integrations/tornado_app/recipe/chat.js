// chat.js
import { connect, LoggedOut } from "/wsauth/wsauth.js";

async function post(url) {
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
  const answer = await fetch(url, { method: "POST", headers: { "X-XSRFToken": xsrf } });
  if (answer.status === 401 || answer.status === 403) throw new LoggedOut(`${url} answered ${answer.status}`);
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
  return answer;
}

export const room = await connect({
  url: "/rooms/lobby",
  protocols: "chat.v2",
  getJwt: async () => (await post("/ws/jwt")).text(),
  getToken: async () => (await (await post("/ws/token")).json()).token,
  onMessage: (text) => document.body.append(text, document.createElement("br")),
});
room.send("hello");
