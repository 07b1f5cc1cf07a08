// The parser beside npm's eventsource-parser, over random streams that are cut at every byte.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser } from "eventsource-parser";
import { Parser, parseEvents } from "./herald.js";

const encoder = new TextEncoder();

// parse returns the events, each with what a page sees of it, and the reconnection time.
function parse(chunks, lastEventId) {
  const parser = new Parser(lastEventId);
  const events = chunks.flatMap((chunk) => [...parser.push(chunk)]);
  return { events: events.map(({ type, data, id }) => ({ type, data, id })), retry: parser.retry };
}

// oracle returns the same by eventsource-parser. It leaves the last event id to its caller, which differs from the
// standard where an id has no event, so the random streams give each id a data line.
function oracle(text) {
  const said = { events: [], retry: undefined };
  let id = "";
  const parser = createParser({
    onEvent: (event) => {
      id = event.id ?? id;
      said.events.push({ type: event.event || "message", data: event.data, id });
    },
    onRetry: (retry) => { said.retry = retry; },
  });
  parser.feed(text.replace(/^\ufeff/, "")); // it leaves UTF-8 to its caller, too
  parser.feed(":\n"); // it acts on a CR at the end of a chunk only when the next line has come
  return said;
}

// generator returns a function that returns random integers below n (mulberry32), the same in each run.
function generator(seed) {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) % n;
  };
}

const values = ["", " ", "x", " x", "  two", "a:b", ": c", "ä€😀", "{\"a\":1}", "\ufeff", "12", "1e3", "-1", "012", "٣"];
const names = ["data", "data", "data", "event", "id", "retry", "time", "key", "pos", "header.a", "Data", " data", "", "dat", "\ufeffdata"];
const ends = ["\n", "\n", "\r\n", "\r"];

function randomStream(random) {
  const pick = (list) => list[random(list.length)];
  let text = pick(["", "", "\ufeff"]);
  for (let events = random(4); events >= 0; events--) {
    for (let lines = random(5); lines >= 0; lines--) text += (pick(names) + pick(["", ":", ":", ":"]) + pick(values) || ":") + pick(ends);
    text += `data:${pick(values)}${pick(ends)}${pick(ends)}${pick(ends)}`;
  }
  return text + pick(["", "data: unfinished", "data: unfinished\n"]);
}

test("the parser agrees with eventsource-parser wherever a stream is cut", () => {
  const random = generator(1);
  for (let n = 0; n < 400; n++) {
    const text = randomStream(random);
    const bytes = encoder.encode(text);
    const want = oracle(text);
    const hint = JSON.stringify(text);
    assert.deepEqual(parse([bytes]), want, hint);
    assert.deepEqual(parse(Array.from(bytes, (byte) => Uint8Array.of(byte))), want, `${hint} byte by byte`);
    for (let at = 0; at <= bytes.length; at++) assert.deepEqual(parse([bytes.subarray(0, at), bytes.subarray(at)]), want, `${hint} cut at ${at}`);
  }
});

// What the standard says and the oracle leaves open.
const cases = {
  "an event without its blank line is none": ["data: a\n", []],
  "a blank line by CR counts before an LF comes": ["data: a\r\r", [{ data: "a" }]],
  "CR LF is one line's end, also with an empty chunk inside": ["data: a\r\ndata: b\r\n\r\n", [{ data: "a\nb" }]],
  "an id without data moves the id": ["id: 1\n\ndata: a\n\n", [{ data: "a", id: "1" }]],
  "an id stays for the events after it": ["id: 1\ndata: a\n\ndata: b\n\n", [{ data: "a", id: "1" }, { data: "b", id: "1" }]],
  "an id with NUL is ignored": ["id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [{ data: "a", id: "1" }, { data: "b", id: "1" }]],
  "an empty id takes the id back": ["id: 1\ndata: a\n\nid\ndata: b\n\n", [{ data: "a", id: "1" }, { data: "b", id: "" }]],
  "a type without data is forgotten": ["event: x\n\ndata: a\n\n", [{ data: "a" }]],
  "a data field without a colon is an empty line": ["data\ndata\n\n", [{ data: "\n" }]],
  "an empty data line makes an event": ["event: delete\ndata:\n\n", [{ type: "delete", data: "" }]],
  "only one space is removed": ["data:  a\n\n", [{ data: " a" }]],
  "two byte order marks are one too many": ["\ufeff\ufeffdata: a\n\ndata: b\n\n", [{ data: "b" }]],
  "bytes that are no UTF-8": [Uint8Array.of(...encoder.encode("data: "), 0xff, 0x0a, 0x0a), [{ data: "\ufffd" }]],
  "Herald's fields belong to their event": [
    "time: 5\nkey: k: v\npos: n-2@41\nheader.a: x\nheader.__proto__: y\nother: z\ndata: a\n\ndata: b\n\n",
    [{ data: "a", fields: { time: "5", key: "k: v", pos: "n-2@41", "header.a": "x", "header.__proto__": "y" } }, { data: "b" }],
  ],
};

for (const [name, [text, want]] of Object.entries(cases)) {
  test(name, () => {
    const bytes = typeof text === "string" ? encoder.encode(text) : text;
    for (let at = 0; at <= bytes.length; at++) {
      const parser = new Parser();
      const events = [bytes.subarray(0, at), new Uint8Array(), bytes.subarray(at)].flatMap((part) => [...parser.push(part)]);
      for (const { fields } of events) delete fields.other;
      assert.deepEqual(events, want.map((event) => ({ type: "message", id: "", fields: {}, ...event })), `cut at ${at}`);
    }
  });
}

test("the reconnection time consists of digits", () => {
  for (const [value, want] of [["20", 20], ["0", 0], ["", undefined], ["-1", undefined], ["1.5", undefined], ["1e3", undefined], ["0x10", undefined], ["٣", undefined], [" 5", undefined]]) {
    assert.equal(parse([encoder.encode(`retry: ${value}\n`)]).retry, want, value);
  }
});

test("the id of an earlier stream stays", () => {
  assert.deepEqual(parse([encoder.encode("data: a\n\n")], "1~a").events, [{ type: "message", data: "a", id: "1~a" }]);
});

test("a chunk with many events is parsed one by one", () => {
  const chunk = encoder.encode("data: a\n\n".repeat(1_000));
  const events = new Parser().push(chunk);
  assert.equal(events.next().value.data, "a");
  assert.equal([...events].length, 999);
});

test("an event of 16 MiB in small chunks takes time in proportion", () => {
  const chunk = encoder.encode("x".repeat(16 << 10));
  const measure = () => {
    const parser = new Parser();
    const begin = performance.now();
    let events = [...parser.push(encoder.encode("data: "))];
    for (let n = 0; n < 1024; n++) events = events.concat([...parser.push(chunk)]);
    events = events.concat([...parser.push(encoder.encode("\n\n"))]);
    assert.equal(events[0].data.length, 16 << 20);
    return performance.now() - begin;
  };
  assert.ok([1, 2, 3].some(() => measure() < 5_000)); // the machine may pause
});

test("parseEvents ends with the body, and cancels a body that is not read to its end", async () => {
  let cancelled = 0;
  const body = () => new ReadableStream({
    pull: (controller) => controller.enqueue(encoder.encode("data: a\n\n")),
    cancel: () => { cancelled++; },
  });
  for await (const event of parseEvents(body())) {
    assert.equal(event.data, "a");
    break;
  }
  assert.equal(cancelled, 1);
});
