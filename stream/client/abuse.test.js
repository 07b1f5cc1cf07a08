// What pages, tokens, clocks, servers and proxies may do that they should not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, fakeClock, live, never, record, refused, stream, turns, watch } from "./fake-server.js";

const url = "https://herald.example/events";
const end = (reason) => `event: end\ndata: {"reason":"${reason}"}\n\n`;

function open(t, server, options) {
  const opened = connect(url, { fetch: server.fetch, ...options });
  t.after(() => opened.close());
  return opened;
}

for (const state of ["connecting", "open", "stale", "waiting", "signed-out", "replaced"]) {
  test(`close() in the state ${state} is for good`, async (t) => {
    const clock = fakeClock(t);
    const answers = { waiting: refused(500), "signed-out": refused(401, "invalid-token", "expired"), replaced: stream(live(), end("too-many-streams")) };
    const server = new FakeServer(answers[state] ?? stream(live()), stream(live()));
    const opened = open(t, server);
    const states = [];
    opened.on("state", (change) => {
      states.push(change.state);
      if (change.state === state) opened.close();
    });
    await clock.tick(40_000, 1_000);
    const requests = server.requests.length;
    await clock.tick(400_000, 10_000);
    assert.equal(states.at(-1), "closed");
    assert.equal(server.requests.length, requests);
    assert.ok(requests <= 1, `${requests} requests`);
  });
}

for (const [name, token] of Object.entries({ undefined, null: null, "an empty text": "", "a Response": new Response("jwt"), "an object": { token: "jwt" } })) {
  for (const session of [false, true]) {
    test(`token() returns ${name}${session ? ", for a session" : ""}: signed out, and nothing is sent`, async (t) => {
      const clock = fakeClock(t);
      const server = new FakeServer(stream(live()));
      const seen = watch(open(t, server, { session, token: () => token }));
      await clock.tick(100_000, 10_000);
      const { state, reason, message } = seen.changes.at(-1);
      assert.deepEqual([state, reason, server.requests.length], ["signed-out", "no-token", 0]);
      assert.match(message, /token\(\)/);
    });
  }
}

test("an answer to POST /session that does not say when the session ends is no storm", async (t) => {
  const clock = fakeClock(t);
  let sessions = 0;
  const streams = new FakeServer(stream(live()));
  const fetch = (asked, init) => (init.method === "POST" ? (sessions++, Response.json({})) : streams.fetch(asked, init));
  open(t, { fetch }, { session: true, token: () => "jwt" });
  await clock.tick(20_000);
  assert.equal(sessions, 1);
});

test("a page that closes the stream while token() runs opens no session", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live()));
  let give;
  const opened = open(t, server, { session: true, token: () => new Promise((resolve) => { give = resolve; }) });
  await turns();
  opened.close();
  give("jwt");
  await turns();
  assert.equal(server.requests.length, 0);
});

test("a clock that is set back does not stop the watchdog", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live()));
  const seen = watch(open(t, server));
  await turns();
  const { now } = Date;
  t.mock.method(Date, "now", () => now.call(Date) - 3_600_000);
  await clock.tick(60_000, 1_000);
  assert.ok(seen.states.includes("stale"), seen.states.join());
});

for (const staleAfter of [Infinity, 1e12]) {
  test(`staleAfter ${staleAfter} never cuts, and its timer rests`, async (t) => {
    const clock = fakeClock(t);
    const server = new FakeServer(stream(live()));
    const { setTimeout } = globalThis;
    let timers = 0;
    t.mock.method(globalThis, "setTimeout", (task, delay) => { timers++; assert.ok(delay < 2 ** 31, `${delay} is too long for a timer`); return setTimeout(task, delay); });
    const seen = watch(open(t, server, { staleAfter }));
    await clock.tick(600_000, 60_000);
    assert.deepEqual(seen.states, ["connecting", "open"]);
    assert.ok(timers < 20, `${timers} timers`);
  });
}

test("a signal that outlives many streams keeps none of them", async (t) => {
  fakeClock(t);
  const { signal } = new AbortController();
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...args) => { listeners++; addEventListener.apply(signal, args); };
  signal.removeEventListener = (...args) => { listeners--; removeEventListener.apply(signal, args); };
  for (let n = 0; n < 100; n++) {
    const opened = connect(url, { fetch: never, signal });
    if (n % 2) await turns();
    opened.close();
  }
  assert.equal(listeners, 0);
});

test("a stream that says retry: 0 and fails is no storm", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(function answer(request) {
    const response = stream("retry: 0\n", live().replace("retry: 2000\n", "")).call(this, request);
    this.last.end();
    return response;
  });
  open(t, server);
  await clock.tick(10_000, 50);
  assert.ok(server.requests.length < 110, `${server.requests.length} requests in 10 s`);
});

test("a server that ends each stream as expired is no storm", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live(), end("token-expired")));
  let tokens = 0;
  open(t, server, { token: () => `token-${++tokens}` });
  await clock.tick(10_000, 50);
  assert.ok(tokens < 12, `${tokens} calls of token() in 10 s`);
});

test("an id that no header can have asks the server, which says that it does not know it", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live()));
  const seen = watch(open(t, server, { lastEventId: "café\n☕" }));
  await turns();
  assert.equal(seen.states.at(-1), "open");
  assert.doesNotThrow(() => new Headers(server.requests[0].headers));
});

const long = "x".repeat(4_000);
const endless = {
  "one line": () => "data:".padEnd(4 << 20, "x"),
  "lines of data": () => `data: ${long}\n`.repeat(1_000),
  "fields": (n) => Array.from({ length: 1_000 }, (_, i) => `f${n}-${i}: ${long}\n`).join(""),
};

for (const [name, chunk] of Object.entries(endless)) {
  test(`an event without an end, of ${name}, ends the connection and not the page`, async (t) => {
    fakeClock(t);
    const server = new FakeServer(stream(live()), never);
    const seen = watch(open(t, server));
    await turns();
    let sent = 0;
    for (let n = 0; n < 30 && seen.states.at(-1) === "open"; n++) {
      const text = chunk(n);
      sent += text.length;
      server.last.send(text);
      await turns();
    }
    const { state, reason } = seen.changes.at(-1);
    assert.deepEqual([state, reason], ["waiting", "too-large"]);
    assert.ok(sent > 64 << 20, `${sent} characters`);
  });
}

test("long records are not taken for an event without an end", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live()));
  const seen = watch(open(t, server));
  await turns();
  for (let n = 0; n < 20; n++) server.last.send(record(`1~${n}`, JSON.stringify("x".repeat(4 << 20))));
  while (seen.events.length < 20) await turns();
  assert.ok(seen.events.every(({ data }) => data.length === 4 << 20));
});
