// Tabs that share a stream by the real module, channel and streams. simulation.js has a world of its own for the rest.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "./herald.js";
import { FakeServer, opening, record, stream, turns, watch } from "./fake-server.js";

const url = "https://herald.example/events";
const opens = (id, told) => opening(id, { viewer: "v", ...told });

// A LockManager that cannot steal.
class Locks {
  held = new Map();

  query = async () => ({ held: [...this.held.keys()].map((name) => ({ name })) });

  async request(name, { signal }, callback) {
    const before = this.held.get(name);
    const hold = (async () => {
      await before;
      if (!signal.aborted) await callback();
    })();
    this.held.set(name, hold);
    return hold;
  }
}

// open opens tabs whose streams and polls get different answers.
async function open(t, number, streams, polls) {
  const before = Object.getOwnPropertyDescriptor(globalThis, "navigator");
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { locks: new Locks() } });
  t.after(() => Object.defineProperty(globalThis, "navigator", before ?? { configurable: true, value: undefined }));
  const servers = { streams: new FakeServer(...streams), polls: new FakeServer(...polls) };
  const fetch = (asked, init) => servers[asked.searchParams.has("wait") ? "polls" : "streams"].fetch(asked, init);
  const tabs = [];
  for (let i = 0; i < number; i++) {
    const opened = connect(url, { fetch, share: t.name, since: "1h" });
    t.after(() => opened.close());
    tabs.push({ opened, seen: watch(opened) });
    await rest();
  }
  return { tabs, ...servers };
}

// rest lets the channel bring its messages.
async function rest() {
  for (let i = 0; i < 5; i++) {
    await turns();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const poll = (...texts) => async function answer(request) {
  await new Promise((resolve) => setTimeout(resolve, 1)); // as the server waits
  const response = stream(...texts).call(this, request);
  this.last.end();
  return response;
};

const id = (offset, before = "1") => `${before}~newsaatopicaa.0-${offset}`;

test("Node.js has locks and channels, and no window", async (t) => {
  const { tabs, streams } = await open(t, 2, [stream(opens(id(1), { live: true }))], [poll(opens(id(1), { live: true }))]);
  streams.last.send(record(id(2)));
  await rest();
  assert.deepEqual(tabs.map(({ seen }) => seen.events.length), [1, 1]);
  assert.deepEqual(tabs.map(({ seen }) => seen.changes.at(-1).shared), ["owner", "follower"]);
});

test("a tab that joins while the server still looks for the beginning stops polling when it is found", async (t) => {
  const sought = `${id(1, "1t1764400000000")}t`;
  const polls = [poll(opens(sought), record(id(1))), poll(opens(id(1), { live: true }))];
  const { tabs, ...servers } = await open(t, 2, [stream(opens(sought))], polls);
  assert.ok(servers.polls.requests.length > 1);
  servers.streams.last.send(record(id(1)));
  await rest();
  servers.streams.last.send(`id: ${id(1)}\nevent: heartbeat\ndata: {}\n\n`);
  await rest();
  const { length } = servers.polls.requests;
  await rest();
  assert.equal(servers.polls.requests.length, length, "it still polls");
  assert.deepEqual(tabs.map(({ seen }) => seen.events.length), [1, 1]);
});
