// The demo page of `herald dev` and `herald serve --demo`: ties the stream, the state and the forms.

import { State } from "./state.js";
import { Stream } from "./stream.js";
import { View, byId, setText } from "./view.js";

const saveAfter = 200; // milliseconds
const announceAfter = 800;
const slowAfter = 5000;
const checkAgain = 1000; // until it is asked again whose the session is
const ownTypes = ["checkpoint", "gap", "end"]; // Herald's own event types
const knownTypes = ["message", "notification", "task-progress"];
const userName = /^[A-Za-z0-9._-]{1,128}$/;
const userRule = byId("user-error").textContent;
const signsIn = document.documentElement.dataset.signIn !== undefined; // else everybody is who they say
const connectionRule = byId("connection-rule").textContent;

const view = new View();
let state;
let stream;
let saveTimer = 0;
let slowTimer = 0;
let announceTimer = 0;
let news = "";
let frame = 0;
let unsure = null; // events that may be of somebody else, until it is known whose the stream is
let opened = false;

// watch shows a user's stream instead of the present one.
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

// url is where the stream goes on from the last event that is shown. When the
// browser reconnects by itself, its Last-Event-ID header counts instead.
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
    stream.close(); // or this tab and a newer one would drive each other out
    byId("connected").checked = false;
  }
  // A page in the background draws no frames; its state moves on all the same.
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    view.draw(state);
  });
  saveTimer ||= setTimeout(saveNow, saveAfter);
}

// saveNow saves what is shown together with the id. If the tab dies before, the
// older item still fits together: what it lacks is sent again after its id.
function saveNow() {
  clearTimeout(saveTimer);
  saveTimer = 0;
  state.save();
}

// changeConnection shows the connection. One that is opened again goes by the cookie that the browser
// has by then: what it brings waits until it is known to be this user's.
function changeConnection(connection) {
  showConnection(connection);
  if (!signsIn) return;
  if (connection !== "open") {
    // The browser would go on behind what waits; a new connection goes on behind what is shown.
    if (connection === "retrying" && unsure?.length) queueMicrotask(() => { stream.close(); stream.open(); });
    unsure = opened && connection !== "closed" ? [] : null;
    return;
  }
  if (opened) checkUser(unsure);
  opened = true;
}

// checkUser lets the events through that wait, or stops where somebody else has signed in.
async function checkUser(waiting) {
  const session = await ask("GET", "session").catch(() => null);
  if (waiting !== unsure) return; // that connection has gone; what it brought comes again
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
    ? `This browser is signed in as ${session.user} now; this page was ${state.user}’s. Reload it to go on as ${session.user}, or sign in.`
    : "Your session has ended. Sign in again: the stream goes on where it stopped.");
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

// announce tells a screen reader, the latest news only and not too often.
function announce(text) {
  if (!text) return;
  news = text;
  announceTimer ||= setTimeout(() => {
    announceTimer = 0;
    setText(byId("announcer"), news);
  }, announceAfter);
}

// listen adds an event type to those that this user's stream shows.
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
  setText(byId("types-shown"), `Shown are events of the types ${shown}. Others arrive unseen until you add their type below.`);
}

// ask sends a request and returns its JSON answer, {} if there is none. It throws an Error with the
// server's own words where there are some.
async function ask(method, address, headers, body) {
  let response;
  try {
    response = await fetch(new URL(address, document.baseURI), { method, headers, body });
  } catch {
    throw new Error("The server did not answer.");
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Error(answer?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`);
  return answer ?? {};
}

function post(address, contentType, body) {
  return ask("POST", address, { "Content-Type": contentType }, body);
}

// onSubmit runs a form's action, one at a time, and shows what came of it.
function onSubmit(form, result, action) {
  byId(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("[type=submit]");
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    const output = byId(result);
    const slow = setTimeout(() => {
      setText(output, `No answer yet. ${connectionRule}`);
      output.classList.remove("error");
    }, slowAfter);
    try {
      setText(output, await action());
      output.classList.remove("error");
    } catch (error) {
      setText(output, error.message);
      output.classList.add("error");
    } finally {
      clearTimeout(slow);
      button.ariaDisabled = null;
    }
  });
}

async function startTask() {
  const seconds = Number(byId("task-seconds").value);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 120) throw new Error("Seconds must be a whole number from 1 to 120.");
  const name = byId("task-name").value.trim();
  if (!name) throw new Error("Give the task a name.");
  const { task } = await post("demo/tasks", "application/json", JSON.stringify({ user: state.user, name, seconds }));
  return `Accepted as task ${task}. ${byId("connected").checked ? "Its progress comes on the stream." : "Connect to see it."}`;
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

function checkJSON(text) {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new Error(`The value is not JSON (${error.message}). Mend it, or choose plain text.`);
  }
}

// signIn exchanges the token for a cookie, and looks whether the browser has kept it. The page forgets
// the token at once.
async function signIn() {
  const field = byId("token");
  const token = field.value.trim();
  if (!token) throw new Error("Paste a token.");
  if (/[^\x21-\x7e]/.test(token)) throw new Error("This is no token: it has spaces or letters that no token has.");
  const session = await ask("POST", "session", { Authorization: `Bearer ${token}` });
  field.value = "";
  const kept = await ask("GET", "session");
  if (!kept.user) throw new Error(`The token is good, but the browser did not keep the cookie${whyNotKept()}`);
  showSession(session);
  return "";
}

function whyNotKept() {
  if (location.protocol !== "http:") return ". Allow cookies for this site.";
  return ` because this page is not served over HTTPS. Open it by https://, which needs a proxy that speaks TLS or
    herald serve --tls-cert-file and --tls-key-file; or, on the server's own machine, by http://localhost. Where the browser
    keeps no cookie there either, herald serve has --insecure-session-cookie.`.replace(/\s+/g, " ");
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

// showSession shows what is the user's.
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

// checkSession finds out whether the stream was refused because the session is over.
async function checkSession() {
  const session = await ask("GET", "session").catch(() => null);
  if (!session || session.user || !state) return; // nobody knows, or it was something else
  stream.close();
  saveNow();
  showSignIn("Your session has ended. Sign in again: the stream goes on where it stopped.");
}

function chooseUser(user) {
  const valid = userName.test(user);
  setText(byId("user-error"), userRule);
  byId("user-error").hidden = valid;
  byId("user").setAttribute("aria-invalid", !valid);
  if (valid && user !== state.user) watch(user);
}

async function copy(button) {
  const source = byId(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 1500);
    announce("Copied");
  } catch { // not allowed here: select it, for the person to copy
    getSelection().selectAllChildren(source);
  }
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

// A page that goes away saves last of all, with nothing arriving afterwards.
// One that comes back out of the browser's memory connects again.
addEventListener("pagehide", () => {
  stream?.close();
  if (state) saveNow();
});
addEventListener("pageshow", (event) => {
  if (event.persisted && state && byId("connected").checked) stream.open();
});

// begin shows the user whom the address asks for, or alice.
function begin() {
  byId("main").hidden = false;
  const asked = new URLSearchParams(location.search).get("user") ?? "";
  watch(userName.test(asked) ? asked : "alice");
  if (asked && state.user !== asked) {
    setText(byId("user-error"), `The address asks for “${asked}”, who cannot be a user here: this is ${state.user}. ${userRule}`);
    byId("user-error").hidden = false;
  }
}

// beginSession goes on with the session that the browser has a cookie of, if there is one.
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
