// How a stream's connection behaves, with a time and a server of the test's own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, ended, fakeClock, live, never, opening, page, record, refused, stream, turns, unreachable, watch } from "./fake-server.js";

const url = "https://herald.example/events";

// open opens a stream of a server with these answers; token() counts its calls.
function open(t, server, options = {}) {
  const opened = connect(url, { fetch: server.fetch, token: () => `token-${++tokens.count}`, ...options });
  const tokens = { count: 0 };
  t.after(() => opened.close());
  return { opened, tokens, seen: watch(opened) };
}

// What follows each answer to a first request. The random number is 0.5; without a time of the server's, the bound of
// the first wait is 2 s.
const answers = {
  "the network": [unreachable, { state: "waiting", reason: "network", delay: 1_000 }],
  "500 of a proxy": [page(500), { state: "waiting", reason: "500", delay: 1_000 }],
  "502 of a proxy": [page(502), { state: "waiting", reason: "502", delay: 1_000 }],
  "503 with a time": [refused(503, "keys-unavailable", undefined, { "Retry-After": "4" }), { state: "waiting", reason: "keys-unavailable", delay: 5_000 }],
  "503 with a day": [page(503, { "Retry-After": "86400" }), { state: "waiting", reason: "503", delay: 301_000 }],
  "503 with a date": [page(503, { "Retry-After": "Wed, 21 Oct 2037 07:28:00 GMT" }), { state: "waiting", reason: "503", delay: 1_000 }],
  429: [refused(429, "quota-exceeded"), { state: "waiting", reason: "quota-exceeded", delay: 1_000 }],
  408: [page(408), { state: "waiting", reason: "408", delay: 1_000 }],
  "404 of another server": [page(404), { state: "waiting", reason: "404", delay: 1_000 }],
  "404 of Herald": [refused(404, "not-found"), { state: "closed", reason: "not-found" }],
  400: [refused(400, "bad-request"), { state: "closed", reason: "bad-request" }],
  421: [refused(421, "foreign-host"), { state: "closed", reason: "foreign-host" }],
  431: [page(431), { state: "closed", reason: "431" }],
  401: [refused(401, "invalid-token", "expired"), { state: "signed-out", reason: "expired", tokens: 2, requests: 2 }],
  "403 for a foreign origin": [refused(403, "foreign-origin"), { state: "closed", reason: "foreign-origin" }],
  "403 for a user": [refused(403, "user-not-served"), { state: "signed-out", reason: "user-not-served" }],
  "a page instead of a stream": [page(200), { state: "waiting", reason: "not-a-stream", delay: 1_000 }],
  "204": [() => new Response(null, { status: 204 }), { state: "waiting", reason: "not-a-stream", delay: 1_000 }],
  "a redirect": [page(302, { Location: "https://login.example/" }), { state: "waiting", reason: "redirect", delay: 1_000 }],
  "end busy": [ended("busy", 10_000), { state: "waiting", reason: "busy", delay: 15_000 }],
  "end keys-unavailable": [ended("keys-unavailable", 2_000), { state: "waiting", reason: "keys-unavailable", delay: 3_000 }],
  "end draining": [ended("draining", 2_000), { state: "waiting", reason: "draining", delay: 3_000 }],
  "end reconnect": [ended("reconnect", 2_000), { state: "waiting", reason: "reconnect", delay: 3_000 }],
  "end token-expired": [ended("token-expired", 2_000), { state: "waiting", reason: "token-expired", delay: 3_000 }],
  "end revoked": [ended("revoked"), { state: "signed-out", reason: "revoked" }],
  "end too-many-streams": [ended("too-many-streams", 3_600_000), { state: "replaced", reason: "too-many-streams" }],
  "an end of the future": [ended("something", 2_000), { state: "waiting", reason: "something", delay: 3_000 }],
};

for (const [name, [answer, want]] of Object.entries(answers)) {
  test(`after ${name}: ${want.state}`, async (t) => {
    const clock = fakeClock(t);
    t.mock.method(Math, "random", () => 0.5);
    const server = new FakeServer(answer);
    const { opened, tokens, seen } = open(t, server);
    await turns();
    const change = seen.changes.at(-1);
    assert.deepEqual(seen.states, ["connecting", want.state]);
    assert.equal(change.reason, want.reason);
    assert.ok(change.message.length > 5, change.message);
    assert.equal(change.shared, "alone");
    assert.equal(opened.state, want.state);
    assert.equal(change.until && change.until - Date.now(), want.delay);
    assert.equal(tokens.count, want.tokens ?? 1);
    assert.equal(server.requests.length, want.requests ?? 1);
    if (want.delay > 1_000) await clock.tick(want.delay - 500, 10_000);
    assert.equal(server.requests.length, want.requests ?? 1);
    await clock.tick(2 * 3_600_000, 1_800_000);
    if (want.delay) assert.ok(server.requests.length > 1);
    else assert.equal(server.requests.length, want.requests ?? 1, "it stays away");
    if (want.state !== "closed") {
      const before = server.requests.length;
      opened.reconnect();
      await turns();
      assert.ok(server.requests.length > before, "reconnect() tries again");
    }
  });
}

// What a state says to people. A URL that may be wrong is named without its parameters; this page is Herald's, or another.
const messages = {
  "the network": [unreachable, "There is no connection to the server (fetch failed)."],
  "the network, from another origin": [unreachable, "There is no connection to the server (fetch failed). Does --allow-origin list https://app.example?", { origin: "https://app.example" }],
  "the network, from its own origin": [unreachable, "There is no connection to the server (fetch failed).", { origin: "https://herald.example" }],
  "the network, from another origin that was served before": [unreachable, "There is no connection to the server (fetch failed).", { origin: "https://app.example", lastEventId: "1~a" }],
  "404 of Herald": [refused(404, "not-found"), `${url}: because of not-found`],
  "404 of another server": [page(404), `${url}: not an answer of Herald: 404, status 404, Content-Type text/html`],
  "a page": [page(200), `${url}: not an answer of Herald: not-a-stream, status 200, Content-Type text/html`],
  "a redirect": [page(302), `${url}: not an answer of Herald: redirect, status 302, Content-Type text/html`],
  "400 of Herald": [refused(400, "bad-request"), "because of bad-request"],
  "an object instead of a token": [never, "token() must return a string.", { token: async () => ({ token: "abc" }) }],
};

for (const [name, [answer, want, { origin, ...options } = {}]] of Object.entries(messages)) {
  test(`the message after ${name}`, async (t) => {
    fakeClock(t);
    globalThis.origin = origin;
    t.after(() => delete globalThis.origin);
    const { seen } = open(t, new FakeServer(answer), { since: "1h", ...options });
    await turns();
    assert.equal(seen.changes.at(-1).message, want);
  });
}

test("the message after a cut", async (t) => {
  fakeClock(t);
  globalThis.origin = "https://app.example";
  t.after(() => delete globalThis.origin);
  const server = new FakeServer(stream(live()));
  const { seen } = open(t, server);
  await turns();
  server.last.end();
  await turns();
  assert.equal(seen.changes.at(-1).message, "There is no connection to the server (it was cut).");
});

// What follows the end of a stream that was live.
const ends = {
  "a cut": [(s) => s.cut(), { states: ["waiting", "connecting", "open"], delay: 2_000, tokens: 1 }],
  "a clean end": [(s) => s.end(), { states: ["waiting", "connecting", "open"], delay: 2_000, tokens: 1 }],
  draining: [end("draining"), { states: ["waiting", "connecting", "open"], delay: 2_000, tokens: 1 }],
  reconnect: [end("reconnect"), { states: ["waiting", "connecting", "open"], delay: 2_000, tokens: 1 }],
  "token-expired": [end("token-expired"), { states: ["connecting", "open"], delay: 0, tokens: 2 }],
  revoked: [end("revoked"), { states: ["signed-out"], tokens: 1 }],
  "too-many-streams": [end("too-many-streams"), { states: ["replaced"], tokens: 1 }],
};

function end(reason) {
  return (s) => {
    s.send(`event: end\ndata: {"reason":"${reason}"}\n\n`);
    s.end();
  };
}

for (const [name, [act, want]] of Object.entries(ends)) {
  test(`after ${name} of a live stream`, async (t) => {
    const clock = fakeClock(t);
    const server = new FakeServer(stream(live("1~a"), record("1~b")));
    const { seen, tokens } = open(t, server, { since: "earliest" });
    await turns();
    assert.deepEqual(seen.states, ["connecting", "open"]);
    await clock.tick(20_000);
    server.last.send(record("1~c"));
    await turns();
    const at = Date.now();
    const before = seen.states.length;
    act(server.last);
    await turns();
    await clock.tick(want.delay || 1);
    assert.deepEqual(seen.states.slice(before), want.states);
    assert.equal(tokens.count, want.tokens);
    if (want.delay === undefined) return;
    const request = server.requests.at(-1);
    assert.equal(request.at - at, want.delay);
    assert.equal(request.headers["Last-Event-ID"], "1~c");
    assert.equal(request.headers.Authorization, `Bearer token-${want.tokens}`);
  });
}

test("the request", async (t) => {
  fakeClock(t);
  const server = new FakeServer(never);
  open(t, server, { since: "1h", types: ["message", "a b"], lastEventId: "1~x" });
  await turns();
  const [{ url: asked, headers, redirect, credentials, cache, method }] = server.requests;
  assert.deepEqual(Object.fromEntries(asked.searchParams), { since: "1h", types: "message,a b", heartbeat: "event", fields: "time,key,pos,headers" });
  assert.deepEqual(headers, { Accept: "text/event-stream", Authorization: "Bearer token-1", "Last-Event-ID": "1~x" });
  assert.deepEqual([redirect, credentials, cache, method], ["manual", "same-origin", "no-store", undefined]);
  assert.ok(!asked.href.includes("token-1"));
});

test("the waits double up to 30 s, and begin again after a live stream", async (t) => {
  const clock = fakeClock(t);
  t.mock.method(Math, "random", () => 1);
  const server = new FakeServer(...Array(7).fill(unreachable), stream(live()), unreachable, unreachable, never);
  const { seen } = open(t, server);
  await clock.tick(125_000, 1_000);
  server.last.cut();
  await turns();
  await clock.tick(10_000, 1_000);
  const waits = seen.changes.filter(({ state }) => state === "waiting").map(({ until, at }) => until - at);
  assert.deepEqual(waits, [2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000, 2_000, 2_000, 4_000]);
});

test("reconnect() begins the waits again", async (t) => {
  const clock = fakeClock(t);
  t.mock.method(Math, "random", () => 1);
  const { seen, opened } = open(t, new FakeServer(unreachable));
  await clock.tick(20_000, 1_000);
  opened.reconnect();
  await turns();
  assert.equal(seen.changes.at(-1).until - Date.now(), 2_000);
});

test("a long replay over a bad network makes progress without long waits", async (t) => {
  const clock = fakeClock(t);
  t.mock.method(Math, "random", () => 1);
  const server = new FakeServer(stream(opening("1~a"), record("1~b")));
  const { seen } = open(t, server);
  for (let n = 0; n < 5; n++) {
    await turns();
    server.last.cut();
    await turns();
    await clock.tick(4_000);
  }
  const waits = seen.changes.filter(({ state }) => state === "waiting").map(({ until, at }) => until - at);
  assert.deepEqual(waits, Array(5).fill(4_000));
});

test("1,000 clients of a server that answers 503 are no storm", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(page(503));
  const streams = Array.from({ length: 1_000 }, () => connect(url, { fetch: server.fetch }));
  t.after(() => streams.forEach((s) => s.close()));
  const begin = Date.now();
  await turns();
  await clock.tick(120_000, 500);
  const seconds = Array(120).fill(0);
  for (const { at } of server.requests) seconds[Math.min(119, Math.floor((at - begin) / 1_000))]++;
  assert.equal(Math.max(...seconds), seconds[0]);
  assert.ok(seconds[1] < 700, `${seconds[1]} in the second second`);
  assert.ok(Math.max(...seconds.slice(2, 10)) < 600, `${seconds.slice(2, 10)}`);
  const later = seconds.slice(60, 119);
  assert.ok(Math.max(...later) < 130, `at most ${Math.max(...later)} a second, of 67 on average`);
  assert.ok(Math.min(...later) > 20, `at least ${Math.min(...later)} a second`);
});

test("a token that was refused twice is a sign-out, and reconnect() tries again", async (t) => {
  fakeClock(t);
  const server = new FakeServer(refused(401, "invalid-token", "expired"), refused(401, "invalid-token", "signature"), refused(401, "invalid-token", "signature"), stream(live()));
  const reasons = [];
  const { seen, opened } = open(t, server, { token: async (reason) => { reasons.push(reason); return "t"; } });
  await turns();
  assert.deepEqual(seen.states, ["connecting", "signed-out"]);
  assert.equal(seen.changes.at(-1).reason, "signature");
  opened.reconnect();
  await turns();
  assert.deepEqual(seen.states.slice(2), ["connecting", "open"]);
  assert.deepEqual(reasons, [undefined, "expired", "signature"]);
});

test("a token that ages while the network is down is renewed", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live()), unreachable, unreachable, refused(401, "invalid-token", "expired"), stream(live()));
  const { seen, tokens } = open(t, server);
  await turns();
  end("token-expired")(server.last);
  await turns();
  await clock.tick(20_000);
  assert.equal(seen.states.at(-1), "open");
  assert.ok(!seen.states.includes("signed-out"));
  assert.equal(tokens.count, 3);
});

test("a token() that rejects is asked again later", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live()));
  let calls = 0;
  const { seen } = open(t, server, { token: () => { if (++calls < 3) throw new Error("no login"); return "t"; } });
  await turns();
  assert.equal(seen.changes.at(-1).state, "waiting");
  assert.equal(seen.changes.at(-1).reason, "token");
  assert.match(seen.changes.at(-1).message, /no login/);
  await clock.tick(10_000);
  assert.equal(calls, 3);
  assert.equal(seen.states.at(-1), "open");
  assert.equal(server.requests.length, 1);
});

test("a token() that hangs is not called twice, except by reconnect()", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live()));
  const calls = [];
  const { seen, opened } = open(t, server, { token: () => new Promise((resolve) => calls.push(resolve)) });
  await clock.tick(50_000, 1_000);
  assert.ok(seen.changes.some(({ state, reason }) => state === "waiting" && reason === "timeout"));
  assert.equal(calls.length, 1);
  opened.reconnect();
  await turns();
  assert.equal(calls.length, 2);
  calls[1]("t");
  await turns();
  assert.equal(seen.states.at(-1), "open");
  calls[0]("old");
  await turns();
  assert.equal(server.requests.length, 1);
});

test("a server that does not answer is given up", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(never, stream(live()));
  const { seen } = open(t, server);
  await clock.tick(60_000, 1_000);
  assert.deepEqual(seen.states, ["connecting", "waiting", "connecting", "open"]);
  assert.equal(seen.changes[1].reason, "timeout");
});

test("reconnect() while connecting begins anew", async (t) => {
  fakeClock(t);
  const server = new FakeServer(never, stream(live()));
  const { seen, opened, tokens } = open(t, server);
  await turns();
  opened.reconnect();
  await turns();
  assert.ok(server.requests[0].signal.aborted);
  assert.deepEqual(seen.states, ["connecting", "connecting", "open"]);
  assert.equal(tokens.count, 1);
});

test("close() ends each state", async (t) => {
  const clock = fakeClock(t);
  for (const answer of [never, unreachable, stream(live()), refused(403, "user-not-served"), ended("too-many-streams")]) {
    const server = new FakeServer(answer);
    const { seen, opened } = open(t, server);
    await turns();
    opened.close();
    opened.close();
    opened.reconnect();
    await clock.tick(100_000, 10_000);
    assert.equal(seen.states.at(-1), "closed");
    assert.equal(seen.states.filter((state) => state === "closed").length, 1);
    assert.equal(server.requests.length, 1);
    assert.ok(server.requests[0].signal.aborted);
  }
});
