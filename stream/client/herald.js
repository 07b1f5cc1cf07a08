// A client of Herald's event streams, for browsers and for Node 20 and later: see herald.d.ts and stream/PROTOCOL.md.
// client.go says how the parts work together.
import { Access, Connection, fail, parseJSON } from "./herald-connection.js";
import { isQuiet, share } from "./herald-share.js";

export { Parser, parseEvents } from "./herald-connection.js";

export function connect(url, options = {}) {
  return new Stream(url, options);
}

// must throws a TypeError for a mistake of the page.
function must(good, message) {
  if (!good) throw new TypeError(message);
}

const isFunction = (value) => typeof value === "function";

function report(error) {
  (globalThis.reportError ?? console.error)(error);
}

// Stream is what connect returns.
class Stream {
  state = "connecting";
  #live = false;
  #listeners = new Set();
  #loops = new Set();
  #parse;
  #access;
  #source;
  #error;

  constructor(address, { token, session, since, types, lastEventId, share: group, parse, staleAfter, signal, fetch, ...others }) {
    for (const name in others) must(false, `connect has no option ${name}`);
    must(!token || isFunction(token), "token must be a function that returns the token");
    // Without a document, a relative URL has no base.
    const url = new URL(address, globalThis.document?.baseURI ?? "none://");
    must(/^http/.test(url), `${address} is not an absolute URL`);
    this.url = url.href;
    this.lastEventId = lastEventId ?? "";
    this.#parse = parse ?? ((data) => parseJSON(data, data));
    const query = url.searchParams;
    query.set("heartbeat", "event");
    query.set("fields", "time,key,pos,headers");
    if (types) query.set("types", types);
    const name = `herald:${url}#${group}`;
    if (since) query.set("since", since.toISOString?.() ?? since);
    const access = (this.#access = new Access(url, token, session, fetch));
    const sink = { position: () => this.lastEventId, event: (event) => this.#receive(event), state: (change) => this.#change(change) };
    const openConnection = (sink, query) => new Connection(access, sink, staleAfter, query);
    this.#source = group ? share(name, { connect: openConnection, sink, begins: Boolean(since || lastEventId) }) : openConnection(sink);
    signal?.addEventListener("abort", () => this.close(), { signal: access.ended.signal });
    if (signal?.aborted) this.close();
    // Listeners that the page adds in this turn get everything.
    queueMicrotask(() => this.state !== "closed" && this.#source.start());
  }

  on(type, listener) {
    must(isFunction(listener), "a listener must be a function");
    const entry = { type, listener };
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  reconnect() {
    if (this.state !== "closed") this.#source.reconnect();
  }

  close() {
    if (this.state !== "closed") this.#source.close();
  }

  // A loop has no queue: the stream is read as fast as the slowest loop takes events.
  async *[Symbol.asyncIterator]() {
    const loop = {};
    this.#loops.add(loop);
    try {
      while (this.state !== "closed") {
        const event = await new Promise((take) => {
          loop.take = take;
          loop.onReady?.();
        });
        if (event) yield event;
      }
      if (this.#error) throw this.#error;
    } finally {
      this.#loops.delete(loop);
      loop.onReady?.();
      if (!this.#loops.size && !this.#listeners.size) this.close();
    }
  }

  // receive takes an event of the source. If it returns a promise, a loop is not ready, and the event was not taken.
  #receive(event) {
    if (this.state === "closed") return;
    const own = isQuiet(event);
    const busy = own ? undefined : [...this.#loops].find((loop) => !loop.take);
    if (busy) return new Promise((ready) => (busy.onReady = ready));
    this.lastEventId = event.id;
    if (!own) this.#deliver(event);
    else if (!this.#live && parseJSON(event.data)?.live) {
      this.#live = true;
      this.#emit("live", { id: event.id });
    }
  }

  #deliver({ type, data, id, fields }) {
    const { time, key, pos } = fields;
    const headers = {};
    for (const name in fields) if (name.startsWith("header.")) headers[name.slice(7)] = fields[name];
    const event = { type, data: this.#read(type, data, id), id, pos, time: time && new Date(Number(time)), key, headers, replayed: !this.#live };
    const loops = [...this.#loops];
    if (type === "gap") this.#emit("gap", event.data);
    else {
      if (!["live", "state", "*"].includes(type)) this.#emit(type, event);
      this.#emit("*", event);
    }
    for (const loop of loops) {
      loop.take?.(event);
      loop.take = undefined;
    }
  }

  #read(type, data, id) {
    if (type === "gap") return { ...parseJSON(data), id };
    if (type === "delete" && data === "") return null; // a tombstone; producers may use the type, too
    try {
      return this.#parse(data, type);
    } catch (error) {
      report(error);
      return data;
    }
  }

  #change(change) {
    if (this.state === "closed") return;
    this.state = change.state;
    if (change.state === "connecting") this.#live = false;
    if (change.state === "closed") this.#end(change);
    this.#emit("state", { shared: "alone", ...change });
  }

  #end({ reason, message }) {
    this.#access.close();
    if (reason) this.#error = fail(reason, message);
    const noticed = this.#loops.size || [...this.#listeners].some(({ type }) => type === "state");
    if (reason && !noticed) report(this.#error);
    for (const loop of this.#loops) loop.take?.();
  }

  // emit stops if a listener closes the stream, or changes the state again.
  #emit(type, value) {
    for (const entry of [...this.#listeners]) {
      if (type === "state" ? value.state !== this.state : this.state === "closed") return;
      if (entry.type !== type || !this.#listeners.has(entry)) continue;
      try {
        entry.listener(value);
      } catch (error) {
        report(error);
      }
    }
  }
}
