// The demo page of `herald dev` and `herald serve --demo`: connects the stream, the state and the forms.

import { ask, checkJSON, onSubmit, post, slowAfter } from "./forms.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";
import { View, announce, byId, copy, setText } from "./view.js";

const saveAfter = 200; // milliseconds
const checkAgain = 1000; // before the page asks again for the session's user
const ownTypes = ["checkpoint", "gap", "end"]; // Herald's own event types
const knownTypes = ["message", "notification", "task-progress"];
const userName = /^[A-Za-z0-9._-]{1,128}$/;
const userRule = byId("user-error").textContent;
const signsIn = document.documentElement.dataset.signIn !== undefined; // without sign-in, the page chooses the user
const sessionEnded = "Your session has ended. Sign in again: the stream continues where it stopped.";

const view = new View();
let state;
let stream;
let saveTimer = 0;
let slowTimer = 0;
let frame = 0;
let unsure = null; // events that may be another user's; they wait until the page knows the session's user
let opened = false;

// watch shows a user's stream. It closes the stream shown before.
function watch(user) {
  stream?.close();
  if (state) saveNow();
  view.reset();
  opened = false;
  unsure = null;
  state = new State(user);
  stream = new Stream({
    url, types: [...ownTypes, ...knownTypes, ...state.types], onEvent: receive, onState: changeConnection,
    onRefused: signsIn ? checkSession : undefined,
  });

  document.title = `${user} · Herald demo`;
  if (!signsIn) {
    const address = new URL(location);
    address.searchParams.set("user", user);
    history.replaceState(null, "", address);
  }
  byId("user").value = user;
  byId("send-user").value = user;
  byId("connected").checked = true;
  for (const chip of document.querySelectorAll(".chip[data-user]")) chip.setAttribute("aria-pressed", chip.dataset.user === user);
  setText(byId("curl"), signsIn ? `herald tail --url '${new URL("events", document.baseURI)}' --token-file FILE`
    : `curl -N '${new URL(`events?user=${user}`, document.baseURI)}'`);
  setText(byId("task-result"), "");
  setText(byId("send-result"), "");
  showTypes();
  view.draw(state);
  stream.open();
}

// url returns the address that resumes the stream after the last event on the
// page. When the browser itself reconnects, it sends the Last-Event-ID header,
// which takes precedence.
function url() {
  const address = new URL("events", document.baseURI);
  if (!signsIn) address.searchParams.set("user", state.user);
  if (state.lastEventId) address.searchParams.set("lastEventId", state.lastEventId);
  return address;
}

function receive(event) {
  if (unsure) {
    unsure.push(event);
    return;
  }
  announce(state.apply(event));
  if (event.type === "end" && JSON.parse(event.data).reason === "too-many-streams") {
    stream.close(); // else this tab and a newer tab would close each other's stream again and again
    byId("connected").checked = false;
  }
  // A page in the background draws nothing, but its state is current.
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    view.draw(state);
  });
  saveTimer ||= setTimeout(saveNow, saveAfter);
}

// saveNow saves the events on the page together with the last id. If the tab ends
// before it is called, the older item is still consistent: the server sends the
// events after the older id again.
function saveNow() {
  clearTimeout(saveTimer);
  saveTimer = 0;
  state.save();
}

// changeConnection shows the state of the connection. A reopened connection uses the browser's present
// cookie, which may be another user's. So its events wait until the page knows the session's user.
function changeConnection(connection) {
  showConnection(connection);
  if (!signsIn) return;
  if (connection !== "open") {
    // The browser would resume after the waiting events. A new connection resumes after the events on the
    // page.
    if (connection === "retrying" && unsure?.length) queueMicrotask(() => { stream.close(); stream.open(); });
    unsure = opened && connection !== "closed" ? [] : null;
    return;
  }
  if (opened) checkUser(unsure);
  opened = true;
}

// checkUser shows the waiting events, or closes the stream if another user has signed in.
async function checkUser(waiting) {
  const session = await ask("GET", "session").catch(() => null);
  if (waiting !== unsure) return; // that connection has ended; its events come again
  if (!session) {
    setTimeout(() => { if (waiting === unsure) checkUser(waiting); }, checkAgain);
    return;
  }
  if (session.user === state.user) {
    unsure = null;
    for (const event of waiting) receive(event);
    return;
  }
  stream.close();
  saveNow();
  showSignIn(session.user
    ? `This browser is now signed in as ${session.user}; this page was ${state.user}’s. Reload it to continue as ${session.user}, or sign in.`
    : sessionEnded);
}

function showConnection(connection) {
  const badge = byId("badge");
  badge.dataset.state = connection;
  setText(badge, connection);
  announce(`Connection ${connection}`);
  clearTimeout(slowTimer);
  byId("slow-hint").hidden = true;
  if (connection === "connecting") slowTimer = setTimeout(() => { byId("slow-hint").hidden = false; }, slowAfter);
}

// listen adds an event type to the types that the page shows for this user.
function listen(type) {
  const listened = stream.types.includes(type) || type === "open" || type === "error";
  if (!type || listened) return;
  state.types.push(type);
  stream.listen(type);
  showTypes();
  saveNow();
}

function showTypes() {
  byId("type-list").replaceChildren(...[...knownTypes, ...state.types].map((type) => {
    const item = document.createElement("li");
    item.className = "pill";
    setText(item, type);
    return item;
  }));
  const shown = new Intl.ListFormat("en").format([...knownTypes, ...state.types]);
  setText(byId("types-shown"), `The page shows events of the types ${shown}. To see events of another type, add the type below.`);
}

async function startTask() {
  const seconds = Number(byId("task-seconds").value);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 120) throw new Error("Seconds must be a whole number from 1 to 120.");
  const name = byId("task-name").value.trim();
  if (!name) throw new Error("Give the task a name.");
  const { task } = await post("demo/tasks", "application/json", JSON.stringify({ user: state.user, name, seconds }));
  return `Accepted as task ${task}. ${byId("connected").checked ? "Its progress arrives on the stream." : "Connect to see it."}`;
}

async function send() {
  const everyone = byId("send-to").value === "all";
  const type = byId("send-type").value.trim();
  const user = byId("send-user").value.trim();
  if (!everyone && !userName.test(user)) throw new Error(userRule);
  const contentType = byId("send-content-type").value;
  const value = byId("send-value").value;
  if (contentType === "application/json") checkJSON(value);
  const address = new URL(everyone ? "broadcast" : `users/${encodeURIComponent(user)}/notifications`, document.baseURI);
  if (type) address.searchParams.set("type", type);
  if (!ownTypes.includes(type)) listen(type);
  const at = await post(address, contentType, value);
  const unseen = (everyone || user === state.user) && !byId("connected").checked;
  return `In Kafka: ${at.topic}, partition ${at.partition}, offset ${at.offset}.${unseen ? " Connect to see it." : ""}`;
}

// signIn exchanges the token for a cookie, clears the token from the page, and checks whether the browser
// has kept the cookie.
async function signIn() {
  const field = byId("token");
  const token = field.value.trim();
  if (!token) throw new Error("Paste a token.");
  if (/[^\x21-\x7e]/.test(token)) throw new Error("This is not a token: it has spaces or other characters that a token cannot have.");
  const session = await ask("POST", "session", { Authorization: `Bearer ${token}` });
  field.value = "";
  const kept = await ask("GET", "session");
  if (!kept.user) throw new Error(`The token is valid, but the browser did not keep the cookie${whyNotKept()}`);
  showSession(session);
  return "";
}

function whyNotKept() {
  if (location.protocol !== "http:") return ". Allow cookies for this site.";
  return ` because this page is not served over HTTPS. Open it with https://, which needs a proxy with TLS or
    herald serve --tls-cert-file and --tls-key-file. On the server's own machine you can use http://localhost instead. If the
    browser does not keep the cookie there either, start herald serve with --insecure-session-cookie.`.replace(/\s+/g, " ");
}

async function signOut() {
  const error = byId("session-error");
  try {
    await ask("DELETE", "session");
  } catch (failure) {
    setText(error, failure.message);
    error.hidden = false;
    return;
  }
  stream.close();
  state.forget();
  state = null;
  showSignIn("");
}

// showSession shows the page of the signed-in user.
function showSession({ user, expires, publish }) {
  byId("sign-in").hidden = true;
  byId("main").hidden = false;
  byId("session-error").hidden = true;
  setText(byId("session-user"), user);
  setText(byId("session-hint"), `Until ${new Date(expires).toLocaleString()}`);
  for (const element of [byId("task-form"), byId("send-form"), ...document.querySelectorAll(".may-publish")]) element.hidden = !publish;
  for (const hint of document.querySelectorAll(".may-not-publish")) hint.hidden = publish;
  watch(user);
}

function showSignIn(why) {
  byId("main").hidden = true;
  byId("sign-in").hidden = false;
  document.title = "Herald demo";
  setText(byId("sign-in-result"), why);
  byId("token").focus();
}

// checkSession asks whether the server refused the stream because the session has ended.
async function checkSession() {
  const session = await ask("GET", "session").catch(() => null);
  if (!session || session.user || !state) return; // no answer, or there was another reason
  stream.close();
  saveNow();
  showSignIn(sessionEnded);
}

function chooseUser(user) {
  const valid = userName.test(user);
  setText(byId("user-error"), userRule);
  byId("user-error").hidden = valid;
  byId("user").setAttribute("aria-invalid", !valid);
  if (valid && user !== state.user) watch(user);
}

onSubmit("sign-in-form", "sign-in-result", signIn);
byId("sign-out").addEventListener("click", signOut);
onSubmit("task-form", "task-result", startTask);
onSubmit("send-form", "send-result", send);
byId("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  chooseUser(byId("user").value.trim());
});
byId("user").addEventListener("change", (event) => chooseUser(event.target.value.trim()));
byId("type-form").addEventListener("submit", (event) => {
  event.preventDefault();
  listen(byId("new-type").value.trim());
  byId("new-type").value = "";
});
byId("send-to").addEventListener("change", (event) => { byId("send-user-field").hidden = event.target.value === "all"; });
byId("connected").addEventListener("change", (event) => {
  if (!event.target.checked) return stream.close();
  for (const result of document.querySelectorAll(".result:not(.error)")) setText(result, ""); // "Connect to see it."
  stream.open();
});
byId("clear-tasks").addEventListener("click", () => {
  state.clearFinished();
  view.draw(state);
  saveNow();
});
byId("clear-log").addEventListener("click", () => {
  state.clearLog();
  view.draw(state);
  saveNow();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy) copy(button);
  if (button?.dataset.user) chooseUser(button.dataset.user);
});

// A page that the browser hides or closes ends its stream first and then saves, so
// that no event arrives after the save. A page that the browser restores from its
// memory connects again.
addEventListener("pagehide", () => {
  stream?.close();
  if (state) saveNow();
});
addEventListener("pageshow", (event) => {
  if (event.persisted && state && byId("connected").checked) stream.open();
});

// begin shows the user in the page's address, or alice.
function begin() {
  byId("main").hidden = false;
  const asked = new URLSearchParams(location.search).get("user") ?? "";
  watch(userName.test(asked) ? asked : "alice");
  if (asked && state.user !== asked) {
    setText(byId("user-error"), `The address names the user “${asked}”, which is not possible here. The page shows ${state.user} instead. ${userRule}`);
    byId("user-error").hidden = false;
  }
}

// beginSession continues the session of the browser's cookie, or shows the sign-in form.
async function beginSession() {
  byId("user-form").hidden = true;
  byId("session").hidden = false;
  try {
    const session = await ask("GET", "session");
    if (session.user) showSession(session);
    else showSignIn("");
  } catch (error) {
    showSignIn(error.message);
  }
}

if (signsIn) beginSession();
else begin();
