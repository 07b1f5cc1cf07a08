// Streams in for await: nothing is lost, nothing is heaped up, and each way out of a loop.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, fakeClock, live, record, refused, stream, turns, watch } from "./fake-server.js";

const url = "https://herald.example/events";

function open(t, server, options) {
  const opened = connect(url, { fetch: server.fetch, ...options });
  t.after(() => opened.close());
  return opened;
}

const records = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => record(`1~${from + n}`, String(from + n))).join("");

// take runs a loop in the background; leave ends its body.
function take(opened, body = () => {}) {
  const taken = { data: [], ended: undefined, error: undefined };
  taken.done = (async () => {
    try {
      for await (const event of opened) {
        taken.data.push(event.data);
        if (await body(event)) break;
      }
      taken.ended = true;
    } catch (error) {
      taken.error = error;
    }
  })();
  return taken;
}

test("a loop gets records and gaps in order, and ends with close()", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live(), records(1, 2), "id: 1~g\nevent: gap\ndata: {\"reason\":\"retention\"}\n\n", records(3, 3)));
  const opened = open(t, server);
  const taken = take(opened);
  await turns();
  assert.deepEqual(taken.data, [1, 2, { reason: "retention", id: "1~g" }, 3]);
  opened.close();
  await taken.done;
  assert.equal(taken.ended, true);
});

test("a slow loop holds the stream back: nothing is lost, nothing is heaped up, and it is not stale", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live(), records(1, 2)));
  const opened = open(t, server);
  const seen = watch(opened);
  let release;
  const taken = take(opened, () => new Promise((resolve) => { release = resolve; }));
  await turns();
  const queued = () => -server.last.desiredSize; // chunks that nobody has read
  for (let n = 3; n <= 12; n++) server.last.send(records(n, n));
  await turns();
  assert.equal(queued(), 10, "the response's body is not read");
  await clock.tick(3_600_000, 60_000);
  assert.deepEqual(seen.states, ["connecting", "open"]);
  assert.deepEqual(taken.data, [1]);
  assert.equal(opened.lastEventId, "1~1", "the position waits for the loop");
  for (let n = 2; n <= 12; n++) {
    release();
    await turns();
    assert.equal(opened.lastEventId, `1~${n}`);
  }
  assert.deepEqual(taken.data, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  await clock.tick(60_000, 1_000);
  assert.ok(seen.states.includes("stale"), "the watchdog is awake again");
});

test("a server that gives a slow loop up repeats nothing and loses nothing", async (t) => {
  const clock = fakeClock(t);
  const server = new FakeServer(stream(live(), records(1, 3)), stream(live("1~3"), records(4, 4)));
  const opened = open(t, server);
  let release;
  const taken = take(opened, () => new Promise((resolve) => { release = resolve; }));
  await turns();
  server.last.end();
  for (let n = 1; n <= 4; n++) {
    release();
    await clock.tick(3_000);
  }
  assert.deepEqual(taken.data, [1, 2, 3, 4]);
  assert.equal(server.requests[1].headers["Last-Event-ID"], "1~3");
});

test("reconnect() while an event waits for a loop delivers the event once", async (t) => {
  fakeClock(t);
  const server = new FakeServer(stream(live(), records(1, 2)), stream(live("1~1"), records(2, 3)));
  const opened = open(t, server);
  let release;
  const taken = take(opened, () => new Promise((resolve) => { release = resolve; }));
  await turns();
  opened.reconnect();
  await turns();
  assert.equal(server.requests[1].headers["Last-Event-ID"], "1~1");
  for (let n = 1; n <= 3; n++) {
    release();
    await turns();
  }
  assert.deepEqual(taken.data, [1, 2, 3]);
});

for (const [name, leave] of Object.entries({
  break: () => true,
  throw: () => { throw new Error("thrown"); },
})) {
  test(`${name} closes a stream that nobody else uses`, async (t) => {
    fakeClock(t);
    const server = new FakeServer(stream(live(), records(1, 3)));
    const opened = open(t, server);
    const taken = take(opened, leave);
    await turns();
    assert.deepEqual(taken.data, [1]);
    assert.equal(taken.error?.message, name === "throw" ? "thrown" : undefined);
    assert.equal(opened.state, "closed");
    assert.ok(server.last.aborted);
  });

  test(`${name} leaves a stream that has listeners`, async (t) => {
    fakeClock(t);
    const server = new FakeServer(stream(live(), records(1, 3)));
    const opened = open(t, server);
    const seen = watch(opened);
    take(opened, leave);
    await turns();
    assert.equal(opened.state, "open");
    assert.deepEqual(seen.events.map(({ data }) => data), [1, 2, 3], "the stream flows again");
  });
}

test("return from a function with a loop", async (t) => {
  fakeClock(t);
  const opened = open(t, new FakeServer(stream(live(), records(1, 3))));
  const first = await (async () => { for await (const event of opened) return event; })();
  assert.equal(first.data, 1);
  assert.equal(opened.state, "closed");
});

test("two loops get each record; the slower one sets the pace", async (t) => {
  fakeClock(t);
  const opened = open(t, new FakeServer(stream(live(), records(1, 3))));
  let release;
  const fast = take(opened);
  const slow = take(opened, () => new Promise((resolve) => { release = resolve; }));
  await turns();
  assert.deepEqual([fast.data, slow.data], [[1], [1]]);
  for (let n = 0; n < 3; n++) {
    release();
    await turns();
  }
  assert.deepEqual([fast.data, slow.data], [[1, 2, 3], [1, 2, 3]]);
});

test("a loop whose neighbour leaves goes on", async (t) => {
  fakeClock(t);
  const opened = open(t, new FakeServer(stream(live(), records(1, 3))));
  const stays = take(opened);
  const leaves = take(opened, () => true);
  await turns();
  assert.deepEqual([stays.data, leaves.data], [[1, 2, 3], [1]]);
  assert.equal(opened.state, "open");
});

test("a request that can never work throws in the loop", async (t) => {
  fakeClock(t);
  const opened = open(t, new FakeServer(refused(400, "bad-request")));
  const taken = take(opened);
  await taken.done;
  assert.equal(taken.error.message, "because of bad-request");
  assert.equal(taken.error.reason, "bad-request");
  const later = take(opened);
  await later.done;
  assert.equal(later.error.reason, "bad-request", "also in a loop that begins later");
});

test("a loop over a closed stream ends", async (t) => {
  const opened = open(t, new FakeServer(stream(live())));
  opened.close();
  const taken = take(opened);
  await taken.done;
  assert.equal(taken.ended, true);
});

test("a loop with a busy body ends after close()", async (t) => {
  fakeClock(t);
  const opened = open(t, new FakeServer(stream(live(), records(1, 3))));
  let release;
  const taken = take(opened, () => new Promise((resolve) => { release = resolve; }));
  await turns();
  opened.close();
  release();
  await taken.done;
  assert.deepEqual(taken.data, [1]);
});

test("calls of next that do not wait for each other get one event each", async (t) => {
  fakeClock(t);
  const opened = open(t, new FakeServer(stream(live(), records(1, 3))));
  const iterator = opened[Symbol.asyncIterator]();
  const results = await Promise.all([iterator.next(), iterator.next(), iterator.next()]);
  assert.deepEqual(results.map(({ value }) => value.data), [1, 2, 3]);
});
