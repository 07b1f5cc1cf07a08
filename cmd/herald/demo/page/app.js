// The demo page of `herald dev` and `herald serve --demo`: the people on the page, signing in, and the clock.

import { isUser, send, suggest, userRule } from "./composer.js";
import { ask, clearPassed, onSubmit, showError } from "./forms.js";
import { Panel } from "./panel.js";
import { byId, setText } from "./view.js";

const checkEvery = 3000; // milliseconds between two questions about Kafka
const signsIn = document.documentElement.dataset.signIn !== undefined; // without sign-in, the page chooses the users
const sessionEnded = "Your session has ended. Sign in again: the stream continues where it stopped.";

const panels = [];
let checking = false;

const page = {
  signsIn,
  mayPublish: true,
  people: () => panels.map((panel) => panel.person),
  rename(panel, user) {
    panel.close();
    const next = new Panel(user, page, { share: true }, panel.claims);
    panels[panels.indexOf(panel)] = next;
    panel.view.element.replaceWith(next.view.element);
    next.view.part("user").focus();
    showPeople();
  },
  signedOut(reason) { showSignIn(reason === "revoked" ? "Somebody has revoked your token. Sign in again: the stream continues where it stopped." : sessionEnded); },
};

// showPeople names the people on the page in its address and in the composer.
function showPeople() {
  const users = page.people().map((person) => person.user);
  document.title = `${users.join(", ")} · Herald demo`;
  if (!signsIn) {
    const address = new URL(location);
    for (const name of [...address.searchParams.keys()]) if (name === "user" || isClaim(name)) address.searchParams.delete(name);
    for (const panel of panels) {
      address.searchParams.append("user", panel.person.user);
      for (const [name, value] of panel.claims) address.searchParams.append(name, value);
    }
    history.replaceState(null, "", address);
  }
  const choices = [...users.map((user) => [`user:${user}`, user]), ["all", "Everyone"], ...(signsIn ? [["other", "Other"]] : [])];
  byId("send-to").replaceChildren(...choices.map(([value, name], at) => createChoice(value, name, at === 0)));
  byId("send-user-field").hidden = true;
}

function createChoice(value, name, checked) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "radio", name: "to", value, checked });
  const text = document.createElement("span");
  text.textContent = name;
  label.append(input, text);
  return label;
}

// isClaim reports whether a parameter of the page's address is the value of a claim. It belongs to the user before it.
function isClaim(name) { return name.startsWith("claim."); }

// claimsOf returns the claims of a user in the page's address, as parameters of the stream.
function claimsOf(user) {
  let owner = null;
  return [...new URLSearchParams(location.search)].filter(([name, value]) => {
    if (name === "user") owner = value;
    return isClaim(name) && owner === user;
  });
}

// begin shows two people: those in the page's address, or alice and bob.
function begin() {
  const asked = new URLSearchParams(location.search).getAll("user");
  const users = [...new Set([...asked.filter(isUser), "alice", "bob"])].slice(0, 2);
  show(users.map((user) => new Panel(user, page, { share: true }, claimsOf(user))));
  const wrong = asked.find((user) => user && !isUser(user));
  if (wrong !== undefined) panels[0].complain(`The address names the user “${wrong}”, which is not possible here. The page shows ${users[0]} instead. ${userRule}`);
}

function show(shown) {
  panels.push(...shown);
  byId("people").replaceChildren(...panels.map((panel) => panel.view.element));
  byId("people").hidden = false;
  byId("composer").hidden = !page.mayPublish;
  showPeople();
  suggest();
}

// beginSession continues the session of the browser's cookie, or shows the sign-in form.
async function beginSession() {
  try {
    const session = await ask("GET", "session");
    if (session.user) showSession(session);
    else showSignIn("");
  } catch (error) {
    showSignIn(error.message);
  }
}

// showSession shows the page of the signed-in user.
function showSession({ user, publish }) {
  byId("sign-in").hidden = true;
  page.mayPublish = publish;
  const panel = new Panel(user, page, { share: user, session: true, fetch: (url, init) => fetchAs(user, url, init) });
  panel.view.part("sign-out").addEventListener("click", () => signOut(panel));
  show([panel]);
}

// fetchAs fetches a user's stream. The browser's present cookie may be another user's: then the stream is
// refused, before the page shows anything of it.
async function fetchAs(user, url, init) {
  const response = await fetch(url, init);
  if (!response.ok && response.status !== 401) return response;
  const session = await ask("GET", "session");
  if (response.ok && session.user === user) return response;
  response.body?.cancel().catch(() => {});
  showSignIn(session.user && session.user !== user
    ? `This browser is now signed in as ${session.user}; this page was ${user}’s. Reload it to continue as ${session.user}, or sign in.`
    : sessionEnded);
  return new Response(null, { status: 403 });
}

// signIn exchanges the token for a cookie, clears the token from the page, and checks whether the browser has
// kept the cookie.
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

async function signOut(panel) {
  try {
    await ask("DELETE", "session");
  } catch (error) {
    panel.complain(error.message);
    return;
  }
  panel.person.forget();
  showSignIn("");
}

// showSignIn closes the streams and asks for a token.
function showSignIn(why) {
  for (const panel of panels.splice(0)) panel.close();
  byId("people").replaceChildren();
  byId("people").hidden = byId("composer").hidden = true;
  byId("sign-in").hidden = false;
  document.title = "Herald demo";
  setText(byId("sign-in-result"), why);
  byId("token").focus();
}

// check asks whether the server reaches Kafka: an open stream alone does not show it.
async function check() {
  if (checking || document.hidden || panels.length === 0) return;
  checking = true;
  const answer = await ask("GET", "demo/condition").catch(() => null);
  checking = false;
  for (const person of page.people()) person.check(answer?.condition);
  if (answer?.condition === "ready") clearPassed();
}

onSubmit(byId("sign-in-form"), byId("sign-in-result"), signIn);
onSubmit(byId("send-form"), byId("send-result"), () => send(page.people()));
byId("send-to").addEventListener("change", (event) => { byId("send-user-field").hidden = event.target.value !== "other"; });
byId("send-value").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("send-form").requestSubmit();
});

// A page that the browser hides or closes saves its events. The streams themselves close when the browser
// keeps the page in its memory, and continue when it comes back.
addEventListener("pagehide", () => {
  for (const person of page.people()) person.hide();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) for (const person of page.people()) person.show();
});

setInterval(() => {
  if (!document.hidden) for (const panel of panels) panel.tick();
}, 1000);
setInterval(check, checkEvery);
document.addEventListener("visibilitychange", check);
if (signsIn) beginSession().catch((error) => showError(byId("sign-in-result"), error));
else begin();
check();
