// The demo page of `herald dev` and `herald serve --demo`: connects the stream, the state and the forms.

import { ask, checkJSON, clearPassed, onSubmit, post, showError, slowAfter } from "./forms.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";
import { View, announce, byId, copy, setText } from "./view.js";

const saveAfter = 200; // milliseconds
const checkEvery = 3000; // milliseconds between two questions about Kafka
const maxUser = 256; // bytes of UTF-8, as the server has it
const userRule = byId("user-error").textContent;
const signsIn = document.documentElement.dataset.signIn !== undefined; // without sign-in, the page chooses the user
const sessionEnded = "Your session has ended. Sign in again: the stream continues where it stopped.";

// The badge and the hint of each state of the connection, and of an open stream whose server is not well.
const descriptions = {
  connecting: ["connecting", ""],
  open: ["connected", byId("connected-hint").textContent],
  retrying: ["reconnecting", "The page tries again by itself, and continues where the stream stopped."],
  paused: ["paused", "You disconnected. Events wait in Kafka: connect, and the stream continues where it stopped."],
  replaced: ["replaced", "A newer stream of this user took this stream’s place: the server limits the streams of a user. Connect to take the place back."],
  "kafka-down": ["connected · Kafka is down", "The stream stays open, and continues when Kafka is back."],
  "not-ready": ["connected · not ready", "The server cannot read all records yet; /readyz on its admin listener says why."],
};

const view = new View();
let state;
let stream;
let saveTimer = 0;
let slowTimer = 0;
let frame = 0;
let connection = "paused"; // connecting, open, retrying, paused or replaced
let condition = "ready"; // the server's last answer: ready, kafka-down or not-ready
let workingSince = 0; // when the stream and Kafka began to work; 0: they do not
let checking = false;

// isUser reports whether a user of the server can have the name.
function isUser(name) {
  return name !== "" && !/[\p{Cc}\p{Cs}]/u.test(name) && new TextEncoder().encode(name).length <= maxUser;
}

// quoteName returns a name as a part of an address that stands between the quotes of a shell's word.
function quoteName(name) {
  return encodeURIComponent(name).replaceAll("'", "%27");
}

// watch shows a user's stream. It closes the stream shown before.
function watch(user) {
  stream?.close();
  if (state) saveNow();
  view.reset();
  state = new State(user);
  stream = new Stream({ request, admit: () => admit(user), onEvent: receive, onState: changeConnection });

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
    : `curl -N '${new URL(`events?user=${quoteName(user)}`, document.baseURI)}'`);
  setText(byId("task-result"), "");
  setText(byId("send-result"), "");
  view.draw(state);
  stream.open();
}

// request returns the request that resumes the stream after the last event on the page.
function request() {
  const address = new URL("events", document.baseURI);
  if (!signsIn) address.searchParams.set("user", state.user);
  const headers = { Accept: "text/event-stream" };
  if (state.lastEventId) headers["Last-Event-ID"] = state.lastEventId;
  return new Request(address, { headers, cache: "no-store" });
}

// admit decides whether the page may show the events of a stream that was just opened. The stream uses the
// browser's present cookie, which may be another user's.
async function admit(user) {
  if (!signsIn) return true;
  const session = await ask("GET", "session");
  if (session.user === user) return true;
  saveNow();
  showSignIn(session.user
    ? `This browser is now signed in as ${session.user}; this page was ${user}’s. Reload it to continue as ${session.user}, or sign in.`
    : sessionEnded);
  return false;
}

function receive(event) {
  announce(state.apply(event));
  if (event.type === "end" && event.data.includes('"too-many-streams"')) {
    close("replaced"); // else this tab and a newer tab would close each other's stream again and again
    byId("connected").checked = false;
  }
  // A page in the background draws nothing, but its state is current.
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (state) view.draw(state);
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

function close(why) {
  stream.close();
  changeConnection(why);
}

function changeConnection(next, why = "") {
  connection = next;
  clearTimeout(slowTimer);
  byId("slow-hint").hidden = true;
  if (next === "connecting") slowTimer = setTimeout(() => { byId("slow-hint").hidden = false; }, slowAfter);
  if (next === "open") checkServer();
  if (next === "retrying" && signsIn) checkSession();
  showConnection(why);
}

function showConnection(why = "") {
  const shown = connection === "open" && condition !== "ready" ? condition : connection;
  workingSince = shown === "open" ? workingSince || Date.now() : 0;
  const [name, hint] = descriptions[shown];
  const badge = byId("badge");
  if (badge.dataset.state !== shown) announce(`Connection: ${name}`);
  badge.dataset.state = shown;
  setText(badge, name);
  setText(byId("connected-hint"), `${why} ${hint}`.trim());
}

// checkServer asks whether the server reaches Kafka: an open stream alone does not show it.
async function checkServer() {
  if (checking || connection !== "open" || document.hidden) return;
  checking = true;
  const answer = await ask("GET", "demo/condition").catch(() => null);
  checking = false;
  if (!answer || connection !== "open") return;
  condition = answer.condition;
  showConnection();
  if (condition === "ready") clearPassed();
}

// checkTasks shows which tasks send no news.
function checkTasks() {
  if (!state) return;
  if (workingSince) announce(state.markQuiet(workingSince));
  if (state.tasks.some((task) => task.quiet)) view.draw(state);
}

async function startTask() {
  const seconds = Number(byId("task-seconds").value);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 120) throw new Error("Seconds must be a whole number from 1 to 120.");
  const name = byId("task-name").value.trim();
  if (!name) throw new Error("Give the task a name.");
  const { task } = await post("demo/tasks", "application/json", JSON.stringify({ user: state.user, name, seconds }));
  return `Accepted as task ${task}.${byId("connected").checked ? "" : " Connect to see it."}`;
}

async function send() {
  const everyone = byId("send-to").value === "all";
  const type = byId("send-type").value.trim();
  const user = byId("send-user").value.trim();
  if (!everyone && !isUser(user)) throw new Error(userRule);
  const contentType = byId("send-content-type").value;
  const value = byId("send-value").value;
  if (contentType === "application/json") checkJSON(value);
  const address = new URL(everyone ? "broadcast" : `users/${encodeURIComponent(user)}/notifications`, document.baseURI);
  if (type) address.searchParams.set("type", type);
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
  try {
    await ask("DELETE", "session");
  } catch (error) {
    showError(byId("session-result"), error);
    return;
  }
  clearTimeout(saveTimer);
  saveTimer = 0;
  state.forget();
  state = null;
  showSignIn("");
}

// showSession shows the page of the signed-in user.
function showSession({ user, expires, publish }) {
  byId("sign-in").hidden = true;
  byId("main").hidden = false;
  setText(byId("session-result"), "");
  setText(byId("session-user"), user);
  setText(byId("session-hint"), `Until ${new Date(expires).toLocaleString()}`);
  for (const element of [byId("task-form"), byId("send-form"), ...document.querySelectorAll(".may-publish")]) element.hidden = !publish;
  for (const hint of document.querySelectorAll(".may-not-publish")) hint.hidden = publish;
  watch(user);
}

// showSignIn closes the stream and asks for a token.
function showSignIn(why) {
  stream?.close();
  connection = "paused";
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
  saveNow();
  showSignIn(sessionEnded);
}

function chooseUser(user) {
  const valid = isUser(user);
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
byId("send-to").addEventListener("change", (event) => { byId("send-user-field").hidden = event.target.value === "all"; });
byId("connected").addEventListener("change", (event) => {
  if (!event.target.checked) return close("paused");
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
  watch(isUser(asked) ? asked : "alice");
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

setInterval(checkTasks, 1000);
setInterval(checkServer, checkEvery);
document.addEventListener("visibilitychange", checkServer);
if (signsIn) beginSession();
else begin();
