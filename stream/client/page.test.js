// How a stream's connection follows what happens to its page and to the computer: sleep, networks, tabs, bfcache.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, ended, fakeClock, live, never, opening, record, refused, stream, turns, unreachable, watch } from "./fake-server.js";

const heartbeat = (id) => `id: ${id}\nevent: heartbeat\ndata: {}\n\n`;

// fakePage makes this process look like a page.
function fakePage(t) {
  const window = new EventTarget();
  const document = Object.assign(new EventTarget(), { hidden: false, baseURI: "https://app.example/dir/page.html" });
  const navigator = { onLine: true };
  const globals = { document, navigator, addEventListener: window.addEventListener.bind(window) };
  for (const [name, value] of Object.entries(globals)) {
    const before = Object.getOwnPropertyDescriptor(globalThis, name);
    Object.defineProperty(globalThis, name, { value, configurable: true });
    t.after(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
  }
  return {
    navigator,
    show: () => { document.hidden = false; document.dispatchEvent(new Event("visibilitychange")); },
    hide: () => { document.hidden = true; document.dispatchEvent(new Event("visibilitychange")); },
    fire: (type, persisted) => window.dispatchEvent(Object.assign(new Event(type), { persisted })),
  };
}

async function open(t, server, options) {
  const page = fakePage(t);
  const clock = fakeClock(t);
  t.mock.method(Math, "random", () => 0.5);
  const opened = connect("../events", { fetch: server.fetch, ...options });
  t.after(() => opened.close());
  const seen = watch(opened);
  await turns();
  return { page, clock, opened, seen };
}

test("a URL is relative to the document", async (t) => {
  const { opened } = await open(t, new FakeServer(never));
  assert.equal(opened.url, "https://app.example/events");
});

// After how many milliseconds of silence a stream is cut, by the heartbeat that the server sends and the option.
for (const [interval, staleAfter, want] of [[15_000, undefined, 37_500], [2_000, undefined, 5_000], [15_000, 20_000, 20_000], [15_000, 5_000, 16_500], [15_000, 60_000, 60_000]]) {
  test(`a heartbeat of ${interval} ms and staleAfter ${staleAfter}: silent for ${want} ms is stale`, async (t) => {
    const server = new FakeServer(stream(opening("1~a", { heartbeat: interval, live: true })));
    const { clock, seen } = await open(t, server, { staleAfter });
    await clock.tick(want - 500);
    server.last.send(heartbeat("1~b"));
    await turns();
    await clock.tick(want - 500);
    assert.deepEqual(seen.states, ["connecting", "open"]);
    await clock.tick(500 + want / 4 + 250);
    assert.deepEqual(seen.states, ["connecting", "open", "stale", "connecting", "open"]);
    assert.equal(server.requests.length, 2);
    assert.ok(server.streams[0].aborted);
    assert.equal(server.requests[1].headers["Last-Event-ID"], "1~b");
  });
}

test("the heartbeat that the first checkpoint tells counts at once", async (t) => {
  const server = new FakeServer(stream(opening("1~a", { heartbeat: 1_000, live: true })));
  const { clock, seen } = await open(t, server);
  await clock.tick(2_500 * 1.25 + 250, 250);
  assert.deepEqual(seen.states, ["connecting", "open", "stale", "connecting", "open"]);
});

test("a comment keeps a stream alive", async (t) => {
  const server = new FakeServer(stream(live()));
  const { clock, seen } = await open(t, server);
  for (let n = 0; n < 10; n++) {
    await clock.tick(30_000, 1_000);
    server.last.send(":\n");
    await turns();
  }
  assert.deepEqual(seen.states, ["connecting", "open"]);
});

test("a computer that has slept reconnects soon, whatever its timers say", async (t) => {
  const server = new FakeServer(stream(live()));
  const { clock, seen } = await open(t, server);
  clock.sleep(3_600_000);
  await clock.tick(10_000);
  assert.deepEqual(seen.states, ["connecting", "open", "stale", "connecting", "open"]);
});

// What happens, and whether the stream connects at once. Each case begins with a live stream and a time without a byte.
const happenings = {
  "the tab is shown, the stream is fresh": [10_000, (page) => page.show(), false],
  "the tab is shown, the stream is dead": [60_000, (page) => page.show(), true],
  "the tab is hidden, the stream is fresh": [10_000, (page) => page.hide(), false],
  "the tab is hidden, the stream is dead": [60_000, (page) => page.hide(), false],
  "the network returns, the stream is fresh": [10_000, (page) => page.fire("online"), false],
  "the network returns, the stream is dead": [60_000, (page) => page.fire("online"), true],
  "the page is shown for the first time": [60_000, (page) => page.fire("pageshow", false), false],
  "the page is shown again, the stream is dead": [60_000, (page) => page.fire("pageshow", true), true],
  "the page is left for good": [10_000, (page) => page.fire("pagehide", false), false],
};

for (const [name, [silence, act, want]] of Object.entries(happenings)) {
  test(name, async (t) => {
    const server = new FakeServer(stream(live()));
    const { clock, page } = await open(t, server);
    clock.sleep(silence); // no timer has noticed it
    act(page);
    await turns();
    assert.equal(server.requests.length, want ? 2 : 1);
    assert.equal(server.streams[0].aborted, want);
  });
}

for (const type of ["visibilitychange", "online"]) {
  test(`a stream that waits connects at ${type}`, async (t) => {
    const server = new FakeServer(unreachable, stream(live()));
    const { page, seen } = await open(t, server);
    assert.deepEqual(seen.states, ["connecting", "waiting"]);
    if (type === "online") page.fire("online");
    else page.show();
    await turns();
    assert.deepEqual(seen.states.slice(2), ["connecting", "open"]);
  });
}

test("without a network a stream is offline, and connects when the network returns", async (t) => {
  const server = new FakeServer(stream(live()), unreachable, stream(live()));
  const { page, clock, seen } = await open(t, server);
  page.navigator.onLine = false;
  server.last.cut();
  await turns();
  assert.equal(seen.changes.at(-1).state, "offline");
  await clock.tick(2_000);
  assert.deepEqual(seen.states.slice(2), ["offline", "connecting", "offline"], "the browser may be wrong, as on localhost");
  page.navigator.onLine = true;
  page.fire("online");
  await turns();
  assert.deepEqual(seen.states.slice(5), ["connecting", "open"]);
});

test("a replaced stream takes its place back when the user looks, not when the network returns", async (t) => {
  const server = new FakeServer(ended("too-many-streams", 3_600_000), stream(live()));
  const { page, clock, seen } = await open(t, server);
  page.fire("online");
  page.hide();
  await clock.tick(7_200_000, 600_000);
  page.fire("online");
  await turns();
  assert.deepEqual(seen.states, ["connecting", "replaced"]);
  page.show();
  await turns();
  assert.deepEqual(seen.states.slice(2), ["connecting", "open"]);
});

test("a stream that is signed out stays so", async (t) => {
  const server = new FakeServer(refused(403, "user-not-served"));
  const { page, clock } = await open(t, server);
  page.fire("online");
  page.show();
  page.fire("pagehide", true);
  page.fire("pageshow", true);
  await clock.tick(3_600_000, 600_000);
  page.fire("online");
  page.show();
  await turns();
  assert.equal(server.requests.length, 1);
});

for (const [name, answer] of Object.entries({ open: stream(live("1~a")), connecting: never, waiting: unreachable })) {
  test(`a page in the browser's cache has no connection, and continues: ${name}`, async (t) => {
    const server = new FakeServer(answer, stream(live("1~b")));
    const { page, clock, seen, opened } = await open(t, server);
    page.fire("pagehide", true);
    assert.ok(server.requests[0].signal.aborted);
    await clock.tick(600_000, 60_000);
    assert.equal(server.requests.length, 1);
    page.fire("pageshow", true);
    await turns();
    assert.deepEqual(seen.states.slice(-2), ["connecting", "open"]);
    assert.equal(opened.lastEventId, "1~b");
  });
}

test("a closed stream leaves no listener", async (t) => {
  const server = new FakeServer(stream(live()));
  const { page, clock, opened } = await open(t, server);
  opened.close();
  page.show();
  page.fire("online");
  page.fire("pagehide", true);
  page.fire("pageshow", true);
  await clock.tick(100_000, 10_000);
  assert.equal(server.requests.length, 1);
  assert.equal(opened.state, "closed");
});

test("events that are there at once after a long silence count", async (t) => {
  const server = new FakeServer(stream(live()));
  const { page, clock, seen } = await open(t, server);
  await clock.tick(30_000);
  server.last.send(record("1~b"));
  await turns();
  await clock.tick(30_000);
  page.show();
  await turns();
  assert.deepEqual(seen.states, ["connecting", "open"]);
  assert.equal(seen.events.length, 1);
});
