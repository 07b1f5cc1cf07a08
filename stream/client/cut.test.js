// Exactness: a server with a log, whose streams are cut at random bytes. Each record arrives once, in order.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { fakeClock, record, opening, turns } from "./fake-server.js";

const encoder = new TextEncoder();

// LogServer has a log of numbers. An event's id is the number of records up to this event. Each response begins after
// the client's id, has a random number of records in random chunks, and ends by a cut, by a clean end, or by an end
// event. Some requests fail.
class LogServer {
  requests = 0;

  constructor(length) {
    this.length = length;
    this.fetch = async (url, { headers, signal }) => {
      this.requests++;
      if (Math.random() < 0.2) throw new TypeError("network error");
      if (Math.random() < 0.1) return new Response("no", { status: 502 });
      const from = Number(headers["Last-Event-ID"] ?? 0);
      const text = this.write(from, from + Math.floor(Math.random() * 40));
      const cut = Math.random() < 0.7;
      const bytes = encoder.encode(text).subarray(0, cut ? Math.floor(Math.random() * text.length) : undefined);
      return new Response(this.send(bytes, cut, signal), { headers: { "Content-Type": "text/event-stream" } });
    };
  }

  write(from, to) {
    let text = opening(String(from));
    for (let n = from; n < Math.min(to, this.length); n++) text += `: ü\n${record(String(n + 1), `"€${n}"`)}`;
    if (to >= this.length) return `${text}${opening(String(this.length), { live: true })}`;
    return Math.random() < 0.5 ? text : `${text}event: end\ndata: {"reason":"draining"}\n\n`;
  }

  send(bytes, cut, signal) {
    let at = 0;
    return new ReadableStream({
      pull: (controller) => {
        if (signal.aborted) return controller.error(signal.reason);
        const size = 1 + Math.floor(Math.random() * 60);
        if (at < bytes.length) controller.enqueue(bytes.slice(at, at += size));
        else if (cut) controller.error(new TypeError("terminated"));
        else controller.close();
      },
    });
  }
}

// The readers of the stream. read resolves when it has seen the last record.
const readers = {
  "a listener": (opened, seen, last) => new Promise((resolve) => opened.on("message", ({ data, id }) => {
    assert.equal(opened.lastEventId, id);
    seen.push(data);
    if (seen.length % 50 === 0) opened.reconnect();
    if (data === last) resolve();
  })),
  "a slow loop": async (opened, seen, last) => {
    for await (const { data, id } of opened) {
      assert.equal(opened.lastEventId, id);
      seen.push(data);
      if (seen.length % 50 === 0) opened.reconnect();
      if (seen.length % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      if (data === last) return;
    }
  },
};

for (const [name, read] of Object.entries(readers)) {
  test(`${name} gets each record of a stream that is cut everywhere`, async (t) => {
    const clock = fakeClock(t);
    const server = new LogServer(500);
    const opened = connect("https://herald.example/events", { fetch: server.fetch, since: "earliest" });
    t.after(() => opened.close());
    const seen = [];
    let done = false;
    const reading = read(opened, seen, "€499").finally(() => { done = true; });
    for (let n = 0; !done && n < 5_000; n++) await clock.tick(1_000, 1_000);
    assert.ok(done, `${seen.length} records after ${server.requests} requests`);
    await reading;
    await turns();
    assert.deepEqual(seen, Array.from({ length: 500 }, (_, n) => `€${n}`));
    assert.ok(server.requests > 20);
  });
}
