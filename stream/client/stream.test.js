// What a page sees of a stream: events, listeners, loops and the position.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, fakeClock, live, never, opening, record, refused, stream, turns, unreachable, watch } from "./fake-server.js";

const url = "https://herald.example/events";
const gap = (id) => `id: ${id}\nevent: gap\ndata: {"source":"n","partition":2,"from":1,"to":9,"reason":"retention"}\n\n`;

// reported collects the errors that the module reports.
function reported(t) {
  const errors = [];
  t.mock.method(console, "error", (error) => errors.push(error.message));
  return errors;
}

function open(t, server, options) {
  const opened = connect(url, { fetch: server.fetch, ...options });
  t.after(() => opened.close());
  return opened;
}

test("an event", async (t) => {
  fakeClock(t);
  const fields = "time: 1764400000123\nkey: k\npos: n-2@41\nheader.trace: a: b\n";
  const server = new FakeServer(stream(opening("1~a"), `id: 1~b\n${fields}data: {"n":1}\n\n`, live("1~c"), `id: 1~d\nevent: x\ndata: text\n\n`, "id: 1~e\nevent: delete\nkey: k\ndata:\n\n", record("1~f", "1", "delete")));
  const seen = watch(open(t, server));
  await turns();
  assert.deepEqual(seen.events, [
    { type: "message", data: { n: 1 }, id: "1~b", pos: "n-2@41", time: new Date(1764400000123), key: "k", headers: { trace: "a: b" }, replayed: true },
    { type: "x", data: "text", id: "1~d", pos: undefined, time: undefined, key: undefined, headers: {}, replayed: false },
    { type: "delete", data: null, id: "1~e", pos: undefined, time: undefined, key: "k", headers: {}, replayed: false },
    { type: "delete", data: 1, id: "1~f", pos: undefined, time: undefined, key: undefined, headers: {}, replayed: false },
  ]);
  assert.equal(seen.lives, 1);
});

test("data is JSON, or the text", async (t) => {
  fakeClock(t);
  const values = ["1", "null", "false", "\"a\"", "{", "", "[1]"];
  const server = new FakeServer(stream(live(), ...values.map((value, n) => record(`1~${n}`, value))));
  const seen = watch(open(t, server));
  await turns();
  assert.deepEqual(seen.events.map(({ data }) => data), [1, null, false, "a", "{", "", [1]]);
});

test("parse gets the text and the type; if it throws, the event has the text", async (t) => {
  fakeClock(t);
  const errors = reported(t);
  const server = new FakeServer(stream(live(), record("1~b", "a", "x"), record("1~c", "bad"), gap("1~d"), "event: delete\ndata:\n\n"));
  const parse = (data, type) => { if (data === "bad") throw new Error("odd"); return [data, type]; };
  const seen = watch(open(t, server, { parse }));
  await turns();
  assert.deepEqual(seen.events.map(({ data }) => data), [["a", "x"], "bad", null]);
  assert.deepEqual(errors, ["odd"]);
});

test("lastEventId has moved when a listener is called, and moves with checkpoints and heartbeats", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(opening("1~a"), record("1~b"), gap("1~c")));
  const opened = open(t, server, { lastEventId: "1~0" });
  const ids = [];
  opened.on("message", () => ids.push(opened.lastEventId));
  opened.on("gap", (missed) => ids.push(opened.lastEventId, missed));
  opened.on("live", ({ id }) => ids.push(opened.lastEventId, id));
  assert.equal(opened.lastEventId, "1~0");
  await turns();
  server.last.send(live("1~d"));
  await turns();
  server.last.send("id: 1~e\nevent: heartbeat\ndata: {}\n\n");
  await turns();
  assert.deepEqual(ids, ["1~b", "1~c", { source: "n", partition: 2, from: 1, to: 9, reason: "retention", id: "1~c" }, "1~d", "1~d"]);
  assert.equal(opened.lastEventId, "1~e");
  server.last.send("id: 1~f\ndata: cut");
  await turns();
  assert.equal(opened.lastEventId, "1~e", "an event counts when its blank line has come");
});

test("live is told again after a reconnect, and once per connection", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(opening(), record("1~b"), live("1~c"), live("1~d"), record("1~e")));
  const seen = watch(open(t, server));
  await turns();
  assert.equal(seen.lives, 1);
  server.last.cut();
  await turns();
  await clock.tick(3_000);
  assert.equal(seen.lives, 2);
  assert.deepEqual(seen.events.map(({ replayed }) => replayed), [true, false, true, false]);
});

test("listeners: types, the star, and names that the module has", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live(), record("1~b", "1"), record("1~c", "2", "state"), record("1~d", "3", "live"), record("1~e", "4", "*"), record("1~f", "5", "x"), gap("1~g")));
  const opened = open(t, server);
  const got = { message: [], x: [], "*": [], state: [], live: [], gap: [] };
  for (const type in got) opened.on(type, (value) => got[type].push(value.data ?? value.state ?? value.id));
  await turns();
  assert.deepEqual(got, { message: [1], x: [5], "*": [1, 2, 3, 4, 5], state: ["connecting", "open"], live: ["1~a"], gap: ["1~g"] });
});

test("a listener that throws stops nothing", async (t) => {
  fakeClock(t);
  const errors = reported(t);
  const server = new FakeServer(stream(live(), record("1~b"), record("1~c")));
  const opened = open(t, server);
  for (const type of ["state", "live", "message"]) opened.on(type, () => { throw new Error(type); });
  const seen = watch(opened);
  await turns();
  assert.deepEqual(errors, ["state", "state", "live", "message", "message"]);
  assert.equal(seen.events.length, 2);
});

test("a listener is removed by its own function, also during an event", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live(), record("1~b"), record("1~c")));
  const opened = open(t, server);
  const got = [];
  const listener = () => got.push("twice");
  const offs = [opened.on("message", listener), opened.on("message", listener)];
  offs[0]();
  opened.on("message", () => offs[2]());
  offs.push(undefined, opened.on("message", () => got.push("never")));
  offs[2] = offs[3];
  await turns();
  assert.deepEqual(got, ["twice", "twice"]);
});

for (const type of ["state", "live", "message", "gap", "*"]) {
  test(`close() in a listener of ${type}`, async (t) => {
    const clock = fakeClock(t);
    const server = new FakeServer(stream(live(), record("1~b"), gap("1~c"), record("1~d")));
    let tokens = 0;
    const opened = open(t, server, { token: () => String(++tokens) });
    let closed = false;
    opened.on(type, () => { opened.close(); closed = true; });
    const after = [];
    for (const other of ["*", "message", "gap", "live"]) opened.on(other, () => closed && after.push(other));
    const states = [];
    opened.on("state", ({ state }) => states.push(state));
    await clock.tick(60_000, 10_000);
    assert.deepEqual(after, []);
    assert.equal(states.at(-1), "closed");
    assert.equal(opened.state, "closed");
    assert.equal(server.requests.length, type === "state" ? 0 : 1);
    assert.equal(tokens, server.requests.length);
  });
}

test("reconnect() in a listener repeats nothing", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live(), record("1~b"), record("1~c")), stream(live("1~b"), record("1~c"), record("1~d")));
  const opened = open(t, server);
  const seen = watch(opened);
  const off = opened.on("message", () => { off(); opened.reconnect(); });
  await turns();
  assert.equal(server.requests[1].headers["Last-Event-ID"], "1~b");
  assert.deepEqual(seen.events.map(({ id }) => id), ["1~b", "1~c", "1~d"]);
});

test("an abort closes the stream", async (t) => {
  fakeClock(t);
  const controller = new AbortController();
  const server = new FakeServer(stream(live()));
  const seen = watch(open(t, server, { signal: controller.signal }));
  await turns();
  controller.abort();
  assert.deepEqual(seen.states, ["connecting", "open", "closed"]);
  assert.ok(server.last.aborted);
  const aborted = open(t, server, { signal: AbortSignal.abort() });
  await turns();
  assert.equal(aborted.state, "closed");
  assert.equal(server.requests.length, 1);
});

// What connect and on refuse at once, with a TypeError that names the mistake.
const refusals = {
  "a relative URL in Node.js": [() => connect("/events"), "/events is not an absolute URL"],
  "a host without a scheme": [() => connect("localhost:8080/events"), "localhost:8080/events is not an absolute URL"],
  "an option that is misspelt": [() => connect(url, { lastEventID: "1" }), "connect has no option lastEventID"],
  "an option of EventSource": [() => connect(url, { withCredentials: undefined }), "connect has no option withCredentials"],
  "an option of the server": [() => connect(url, { fields: "pos" }), "connect has no option fields"],
  "a token that is a text": [() => connect(url, { token: "abc" }), "token must be a function that returns the token"],
  "a token that is a promise": [() => connect(url, { token: Promise.resolve("abc") }), "token must be a function that returns the token"],
  "no listener": [(t) => open(t, new FakeServer(never)).on("message"), "a listener must be a function"],
  "a listener that is an object": [(t) => open(t, new FakeServer(never)).on("message", { handleEvent() {} }), "a listener must be a function"],
};

for (const [name, [act, message]] of Object.entries(refusals)) {
  test(`refused at once: ${name}`, (t) => {
    assert.throws(() => act(t), { name: "TypeError", message });
  });
}

test("options that are undefined or null are as none", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live()));
  const options = { token: undefined, since: null, types: undefined, lastEventId: null, share: undefined, parse: null, staleAfter: undefined, signal: undefined };
  const seen = watch(open(t, server, options));
  await turns();
  assert.deepEqual(seen.states, ["connecting", "open"]);
  assert.deepEqual([...server.requests[0].url.searchParams.keys()], ["heartbeat", "fields"]);
});

for (const [name, options, want] of [
  ["a Date", { since: new Date(1764400000123) }, { since: "2025-11-29T07:06:40.123Z" }],
  ["a text", { since: "90m" }, { since: "90m" }],
  ["types as a list", { types: ["message", "news"] }, { types: "message,news" }],
  ["types as a text", { types: "message,news" }, { types: "message,news" }],
]) {
  test(`where a stream begins, and what it has: ${name}`, async (t) => {
    fakeClock(t);
    const server = new FakeServer(never);
    open(t, server, options);
    await turns();
    const { heartbeat, fields, ...asked } = Object.fromEntries(server.requests[0].url.searchParams);
    assert.deepEqual(asked, want);
  });
}

test("a refusal that nobody would notice is reported", async (t) => {
  fakeClock(t);
  const errors = reported(t);
  open(t, new FakeServer(refused(400, "bad-request"))).on("message", () => {});
  await turns();
  assert.deepEqual(errors, ["because of bad-request"]);
});

test("a stream that is closed before its turn asks nothing", async (t) => {
  const server = new FakeServer(unreachable);
  open(t, server).close();
  await turns();
  assert.equal(server.requests.length, 0);
});
