// Streams that use the session cookie.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, fakeClock, live, refused, stream, turns, unreachable, watch } from "./fake-server.js";

const url = "https://herald.example/a/events";

// session answers as POST /session, for some milliseconds from now.
const session = (life) => () => Response.json({ user: "alice", expires: new Date(Date.now() + life).toISOString(), publish: false });

// SessionServer answers requests for a session and for streams by different lists.
function sessionServer(sessions, streams) {
  const forSessions = new FakeServer(...sessions);
  const forStreams = new FakeServer(...streams);
  const fetch = (asked, init) => (init.method === "POST" ? forSessions : forStreams).fetch(asked, init);
  return { fetch, sessions: forSessions.requests, requests: forStreams.requests, get last() { return forStreams.last; } };
}

function open(t, server, options) {
  let calls = 0;
  const opened = connect(url, { fetch: server.fetch, session: true, token: () => `token-${++calls}`, ...options });
  t.after(() => opened.close());
  return { opened, seen: watch(opened), calls: () => calls };
}

test("the token is exchanged for the cookie beside the stream's URL", async (t) => {
  fakeClock(t);
  const server = sessionServer([session(60_000)], [stream(live())]);
  const { seen } = open(t, server);
  await turns();
  assert.deepEqual(seen.states, ["connecting", "open"]);
  const [{ url: at, headers, credentials, redirect }] = server.sessions;
  assert.deepEqual([at.href, headers, credentials, redirect], ["https://herald.example/a/session", { Authorization: "Bearer token-1" }, "include", "manual"]);
  assert.deepEqual([server.requests[0].headers, server.requests[0].credentials], [{ Accept: "text/event-stream" }, "include"]);
});

test("another URL for the session", async (t) => {
  fakeClock(t);
  const server = sessionServer([session(60_000)], [stream(live())]);
  open(t, server, { session: "/login/session" });
  await turns();
  assert.equal(server.sessions[0].url.href, "https://herald.example/login/session");
});

test("a session is renewed at 80 % of its life, and the stream stays", async (t) => {
  const clock = fakeClock(t);
  const server = sessionServer([session(100_000)], [stream(live())]);
  const { opened } = open(t, server);
  await turns();
  const begin = Date.now();
  for (let n = 0; n < 20; n++) {
    await clock.tick(10_000, 1_000);
    server.last.send(":\n");
    await turns();
  }
  assert.deepEqual(server.sessions.map(({ at }) => at - begin), [0, 80_000, 160_000]);
  assert.equal(server.requests.length, 1);
  opened.close();
  await clock.tick(200_000, 10_000);
  assert.equal(server.sessions.length, 3, "a closed stream renews nothing");
});

test("a renewal that fails is tried again before the session ends", async (t) => {
  const clock = fakeClock(t);
  const server = sessionServer([session(100_000), unreachable, unreachable, session(100_000)], [stream(live())]);
  open(t, server);
  await turns();
  const begin = Date.now();
  await clock.tick(99_500, 100);
  assert.deepEqual(server.sessions.map(({ at }) => at - begin), [0, 80_000, 96_000, 99_200]);
});

test("a session that was renewed meanwhile serves the stream that expires", async (t) => {
  const clock = fakeClock(t);
  const server = sessionServer([session(100_000)], [stream(live())]);
  const { seen, calls } = open(t, server);
  await turns();
  for (let n = 0; n < 3; n++) {
    await clock.tick(30_000, 10_000);
    server.last.send(":\n");
    await turns();
  }
  const before = calls();
  assert.equal(before, 2);
  server.last.send("event: end\ndata: {\"reason\":\"token-expired\"}\n\n");
  await turns();
  assert.equal(seen.states.at(-1), "open");
  assert.equal(calls(), before);
});

test("a refused session is made anew once", async (t) => {
  fakeClock(t);
  const server = sessionServer([session(60_000)], [refused(401, "invalid-token", "revoked"), stream(live())]);
  const { seen, calls } = open(t, server);
  await turns();
  assert.deepEqual(seen.states, ["connecting", "open"]);
  assert.equal(calls(), 2);
});

test("a token that POST /session refuses twice is a sign-out", async (t) => {
  fakeClock(t);
  const server = sessionServer([refused(401, "invalid-token", "signature")], [stream(live())]);
  const { seen, calls } = open(t, server);
  await turns();
  assert.deepEqual(seen.states, ["connecting", "signed-out"]);
  assert.deepEqual([calls(), server.requests.length], [2, 0]);
});

test("a token that is too long for a cookie closes the stream, with the server's words", async (t) => {
  fakeClock(t);
  const server = sessionServer([refused(413, "too-large")], [stream(live())]);
  const { seen } = open(t, server);
  await turns();
  assert.deepEqual([seen.states.at(-1), seen.changes.at(-1).message], ["closed", "because of too-large"]);
});

test("without token(), a cookie that exists is used", async (t) => {
  const clock = fakeClock(t);
  const server = sessionServer([], [stream(live()), stream(live()), refused(401, "invalid-token", "expired")]);
  const { seen } = open(t, server, { token: undefined });
  await clock.tick(3_000);
  server.last.send("event: end\ndata: {\"reason\":\"token-expired\"}\n\n");
  await turns();
  assert.deepEqual(seen.states, ["connecting", "open", "connecting", "open"], "the page may have renewed the session");
  await clock.tick(3_000);
  server.last.send("event: end\ndata: {\"reason\":\"token-expired\"}\n\n");
  await turns();
  assert.equal(seen.states.at(-1), "signed-out");
  assert.equal(server.requests[0].credentials, "include");
});
