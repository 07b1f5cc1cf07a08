// A client of Herald's event streams, for browsers and for Node 20 and later. herald.d.ts describes its use,
// stream/PROTOCOL.md the protocol.
//
// The way of an event: a source (below) reads it, Stream.#receive moves lastEventId and calls the listeners and loops.
//
// The seam between this file and herald-share.js is the source. A source has
//   start(), reconnect(), close()
// and reports to a sink:
//   sink.position()     the event id to resume after, "" for none. The source asks before each request.
//   sink.event(event)   {type, data, id, fields} as parseEvents yields it: records, gap, checkpoint and heartbeat, but
//                       no end. event.id becomes the position. If a promise is returned, the next event must wait for it:
//                       a loop (for await) is not ready. A source that cannot hold its events back drops them, and
//                       reads them again from the position.
//   sink.state(change)  {state, reason, message, until, shared}. After "connecting", events count as replayed until a
//                       checkpoint with "live":true.
// Connection is a source of its own. share(name, {connect, poll, sink, begins}) returns a source that is one among tabs:
//   connect(sink)                  returns a Connection for the tab that owns the stream
//   poll(position, wait, signal)   yields the events of one response with wait=… until it ends; throws a Failure
//   begins                         the stream has a beginning of its own: since or lastEventId
import { share } from "./herald-share.js";

const fields = "time,key,pos,headers";
const firstRetry = 2_000; // milliseconds, until a stream has its own
const maxBackOff = 30_000;
const maxRetryAfter = 300_000;
const firstHeartbeat = 15_000; // until a stream tells its own
const fatalStatus = (status) => status >= 400 && status < 500 && ![401, 403, 408, 425, 429].includes(status);

export function connect(url, options) {
  return new Stream(new URL(url, globalThis.document?.baseURI), options ?? {});
}

// parseEvents yields the events of a response's body, as WHATWG HTML, section 9.2.6 has them, with Herald's further
// fields. heard is called for each chunk of bytes. It keeps one event in memory.
export async function* parseEvents(body, parser = new Parser(), heard = () => {}) {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

export class Parser {
  retry; // the reconnection time in milliseconds
  #id;
  #line = ""; // the part of a line that has come
  #afterCR = false; // an LF that comes next belongs to the last line's CR
  #decoder = new TextDecoder(); // also removes a byte order mark
  #event = { fields: {} };

  constructor(lastEventId = "") {
    this.#id = lastEventId;
  }

  // push yields the events that bytes complete.
  *push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    if (text === "") return;
    const lineEnd = /\r\n?|\n/g;
    if (this.#afterCR && text[0] === "\n") lineEnd.lastIndex = 1;
    let from = lineEnd.lastIndex;
    for (let end; (end = lineEnd.exec(text)); from = lineEnd.lastIndex) {
      const line = this.#line + text.slice(from, end.index);
      this.#line = "";
      if (line !== "") this.#readField(line);
      else if (this.#event.data !== undefined) yield this.#take();
      else this.#event = { fields: {} };
    }
    this.#line += text.slice(from);
    this.#afterCR = text.endsWith("\r");
  }

  #readField(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#event.data = this.#event.data === undefined ? value : `${this.#event.data}\n${value}`;
    else if (name === "event") this.#event.type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
    else if (/^(time|key|pos|header\..+)$/.test(name)) this.#event.fields[name] = value;
  }

  #take() {
    const { type, data, fields } = this.#event;
    this.#event = { fields: {} };
    return { type: type || "message", data, id: this.#id, fields };
  }
}

// Failure says why a request got no stream. status is 0 if there was no answer.
class Failure extends Error {
  constructor(reason, message, status = 0, retryAfter = 0) {
    super(message);
    Object.assign(this, { reason, status, retryAfter });
  }
}

// Access makes requests with the token or the session.
class Access {
  #pending; // the token, or the session, that is being fetched
  #bearer;
  #expires = 0; // of the session
  #renewed = false; // the server wanted a new token, and has not accepted one since
  #timer;

  constructor(url, { token, session, fetch }) {
    this.url = url;
    this.token = token;
    this.session = session && new URL(session === true ? "session" : session, url);
    this.fetch = fetch ?? globalThis.fetch;
  }

  // open returns the response of an event stream, or throws a Failure. Once, it answers a 401 by a new token.
  async open(query, lastEventId, signal) {
    try {
      return await this.#get(query, lastEventId, signal);
    } catch (failure) {
      if (failure.status !== 401 || !this.renew(failure.reason)) throw failure;
      return this.#get(query, lastEventId, signal);
    }
  }

  // renew makes the next request get a new token. It reports false if that was in vain already.
  renew(reason) {
    if (this.#renewed) return false;
    this.#renewed = true;
    this.#bearer = undefined;
    this.#expires = 0;
    this.refusal = reason;
    return this.token !== undefined;
  }

  // forget makes the next request call token() anew, although an earlier call is unanswered, or was in vain.
  forget() {
    this.#pending = undefined;
    this.#renewed = false;
  }

  close() {
    clearTimeout(this.#timer);
    this.closed = true;
  }

  async #get(query, lastEventId, signal) {
    const url = new URL(this.url);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const headers = { Accept: "text/event-stream", ...(await this.#authorization()) };
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    const response = await this.#request(url, { headers, signal });
    const type = response.headers.get("Content-Type") ?? "";
    if (!/^text\/event-stream *(;|$)/i.test(type)) {
      response.body?.cancel().catch(() => {});
      throw new Failure("not-a-stream", `The answer is not an event stream: its Content-Type is "${type}".`, 200);
    }
    this.#renewed = false;
    return response;
  }

  async #authorization() {
    if (!this.token || (this.session && Date.now() < this.#expires)) return {};
    if (!this.#bearer) await this.#fetchToken();
    return this.session ? {} : { Authorization: `Bearer ${this.#bearer}` };
  }

  // fetchToken calls token(), never twice at a time: a second call may invalidate the first call's token.
  #fetchToken() {
    const pending = (this.#pending ??= this.#askForToken().finally(() => {
      if (this.#pending === pending) this.#pending = undefined;
    }));
    return pending;
  }

  async #askForToken() {
    let token;
    try {
      token = await this.token(this.refusal);
    } catch (error) {
      throw new Failure("token", `token() failed: ${error?.message ?? error}`);
    }
    if (this.session) await this.#signIn(token);
    else this.#bearer = token;
  }

  // signIn exchanges the token for the session cookie, and does so again at 80 % of its life.
  async #signIn(token) {
    const headers = { Authorization: `Bearer ${token}` };
    const response = await this.#request(this.session, { method: "POST", headers, signal: AbortSignal.timeout(maxBackOff) });
    this.#expires = Date.parse((await response.json()).expires);
    this.#renewLater();
  }

  #renewLater() {
    const left = this.#expires - Date.now();
    clearTimeout(this.#timer);
    if (this.closed || left < 1_000) return;
    this.#timer = setTimeout(() => this.#fetchToken().catch(() => this.#renewLater()), Math.min(left * 0.8, 86_400_000));
  }

  // request follows no redirect: a token is for its server alone, and a login page is not an answer.
  async #request(url, init) {
    const { fetch } = this;
    const credentials = this.session ? "include" : "same-origin";
    let response;
    try {
      response = await fetch(url, { cache: "no-store", credentials, redirect: "manual", ...init });
    } catch (error) {
      throw new Failure("network", error.message);
    }
    if (response.ok) return response;
    if (response.type === "opaqueredirect" || response.headers.has("Location")) {
      throw new Failure("redirect", "The server redirects the request elsewhere, as to a page where users sign in.");
    }
    const { error } = (await response.json().catch(() => ({}))) ?? {};
    const reason = error?.reason ?? error?.code ?? String(response.status);
    const seconds = Number(response.headers.get("Retry-After")) || 0;
    throw Object.assign(new Failure(reason, error?.message ?? response.statusText, response.status), { retryAfter: seconds * 1000, known: Boolean(error?.code) });
  }
}

// Connection keeps one stream open: it connects, notices that the stream is dead, and connects again.
class Connection {
  #access;
  #sink;
  #staleAfter;
  #heartbeat = firstHeartbeat;
  #retry = firstRetry;
  #failures = 0; // since a stream was live
  #state;
  #attempt = new AbortController();
  #ended = new AbortController();
  #timer; // the watchdog of an attempt, or the wait for the next one
  #heardAt = 0;
  #held = false; // a loop is not ready, so the stream is not read

  constructor(access, sink, staleAfter) {
    this.#access = access;
    this.#sink = sink;
    this.#staleAfter = staleAfter;
  }

  start() {
    const { signal } = this.#ended;
    const { document } = globalThis;
    document?.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.#wake(["replaced"]), { signal });
    globalThis.addEventListener?.("online", () => this.#wake([]), { signal });
    globalThis.addEventListener?.("pageshow", (event) => event.persisted && this.#wake(["suspended"]), { signal });
    globalThis.addEventListener?.("pagehide", (event) => event.persisted && this.#suspend(), { signal });
    this.#open();
  }

  reconnect() {
    if (this.#ended.signal.aborted) return;
    this.#failures = 0;
    this.#access.forget();
    this.#open();
  }

  close(change = {}) {
    if (this.#ended.signal.aborted) return;
    this.#cut();
    this.#ended.abort();
    this.#change({ ...change, state: "closed" });
  }

  // wake connects at once if the stream waits, or is silent for too long. Timers may have slept with the computer.
  #wake(states) {
    const silent = ["open", "connecting"].includes(this.#state) && this.#isSilent();
    if (silent || ["waiting", "offline", ...states].includes(this.#state)) this.#open();
  }

  // suspend closes the connection of a page that the browser may keep for the user's return (bfcache).
  #suspend() {
    if (["signed-out", "replaced"].includes(this.#state)) return;
    this.#cut();
    this.#state = "suspended";
  }

  #cut() {
    clearTimeout(this.#timer);
    this.#attempt.abort();
  }

  #change(change) {
    this.#state = change.state;
    this.#sink.state(change);
  }

  async #open() {
    this.#cut();
    const { signal } = (this.#attempt = new AbortController());
    this.#heardAt = Date.now();
    this.#held = false;
    this.#watch();
    this.#change({ state: "connecting" });
    if (signal.aborted) return; // a listener has called close() or reconnect()
    try {
      const response = await this.#access.open({}, this.#sink.position(), signal);
      const end = await this.#read(response, signal);
      if (!signal.aborted) this.#settle(end);
    } catch (failure) {
      if (!signal.aborted) this.#settle(failure);
    }
  }

  // read hands the stream's events on, and returns why the stream has ended.
  async #read(response, signal) {
    const parser = new Parser(this.#sink.position());
    const heard = () => (this.#heardAt = Date.now());
    const retryAfter = () => (parser.retry === undefined ? 0 : (this.#retry = Math.min(parser.retry, maxRetryAfter)));
    try {
      for await (const event of parseEvents(response.body, parser, heard)) {
        if (signal.aborted) return;
        if (event.type === "end") return { reason: parseJSON(event.data)?.reason ?? "end", retryAfter: retryAfter() };
        if (this.#state !== "open") this.#change({ state: "open" });
        if (event.type === "checkpoint") this.#readCheckpoint(parseJSON(event.data));
        await this.#hand(event);
        if (signal.aborted) return;
      }
    } catch (error) {
      return { reason: "network", message: error.message, retryAfter: retryAfter() };
    }
    return { reason: "network", message: "The connection was cut.", retryAfter: retryAfter() };
  }

  #readCheckpoint(told) {
    if (told?.heartbeat > 0) this.#heartbeat = told.heartbeat;
    if (told?.live) this.#failures = 0;
  }

  // hand waits where the sink does. The server then sees a slow client, and the watchdog sleeps.
  async #hand(event) {
    const ready = this.#sink.event(event);
    if (!ready) return;
    this.#held = true;
    await ready;
    this.#held = false;
    this.#heardAt = Date.now();
  }

  // settle decides what follows the end of a stream, or a request that got none.
  #settle({ reason, message, status, known, retryAfter = 0 }) {
    if (reason === "token-expired" && this.#failures === 0 && this.#renew()) return this.#open();
    if (reason === "revoked" || status === 401 || status === 403) return this.#stay("signed-out", reason, message);
    if (reason === "too-many-streams") return this.#stay("replaced", reason, message);
    if (fatalStatus(status) && (known || status !== 404)) return this.close({ reason, message });
    this.#wait(reason, message, retryAfter);
  }

  #renew() {
    this.#access.renew("token-expired");
    return true;
  }

  #stay(state, reason, message) {
    this.#cut();
    this.#change({ state, reason, message });
  }

  // wait connects again after the time that the server wants. After the first failure, a random time is added, whose
  // bound doubles up to 30 s: clients that failed together do not return together.
  #wait(reason, message, retryAfter) {
    this.#cut();
    const bound = this.#failures === 0 && retryAfter > 0 ? 0 : Math.min(maxBackOff, this.#retry * 2 ** Math.max(0, this.#failures - 1));
    this.#failures++;
    const delay = Math.min(retryAfter, maxRetryAfter) + Math.random() * bound;
    this.#timer = setTimeout(() => this.#open(), delay);
    const state = globalThis.navigator?.onLine === false ? "offline" : "waiting";
    this.#change({ state, reason, message, until: new Date(Date.now() + delay) });
  }

  #limit() {
    return Math.max(this.#staleAfter ?? 2.5 * this.#heartbeat, 1.1 * this.#heartbeat);
  }

  #isSilent() {
    return !this.#held && Date.now() - this.#heardAt > this.#limit();
  }

  // watch looks several times within the limit, because timers stand still while a computer sleeps.
  #watch() {
    this.#timer = setTimeout(() => {
      if (!this.#isSilent()) return this.#watch();
      if (this.#state !== "open") return this.#wait("timeout", "Neither the server nor token() answers.", 0);
      this.#change({ state: "stale", reason: "timeout" });
      this.#open();
    }, this.#limit() / 4);
  }
}

// Stream is what connect() returns.
class Stream {
  lastEventId;
  state = "connecting";
  url;
  #parse;
  #listeners = new Map();
  #loops = new Set();
  #live = false;
  #source;
  #access;
  #error;

  constructor(url, options) {
    this.url = url.href;
    this.lastEventId = options.lastEventId ?? "";
    this.#parse = options.parse ?? ((data) => parseJSON(data) ?? data);
    this.#source = this.#makeSource(url, options);
    options.signal?.addEventListener("abort", () => this.close(), { once: true });
    // Listeners that the caller adds in this turn get everything.
    queueMicrotask(() => {
      if (options.signal?.aborted) this.close();
      if (this.state !== "closed") this.#source.start();
    });
  }

  #makeSource(url, options) {
    const address = new URL(url);
    address.searchParams.set("heartbeat", "event");
    address.searchParams.set("fields", fields);
    if (options.types) address.searchParams.set("types", options.types);
    const name = `herald:${address}#${options.share === true ? "" : options.share}`;
    if (options.since) address.searchParams.set("since", options.since);
    const access = (this.#access = new Access(address, options));
    const sink = {
      position: () => this.lastEventId,
      event: (event) => this.#receive(event),
      state: (change) => this.#change(change),
    };
    const connection = (sink) => new Connection(access, sink, options.staleAfter);
    if (!options.share) return connection(sink);
    return share(name, { connect: connection, poll, sink, begins: Boolean(options.since || options.lastEventId) });

    async function* poll(position, wait, signal) {
      const response = await access.open({ wait }, position, signal);
      yield* parseEvents(response.body, new Parser(position));
    }
  }

  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners);
    const entry = { listener };
    listeners.add(entry);
    return () => void listeners.delete(entry);
  }

  reconnect() {
    if (this.state !== "closed") this.#source.reconnect();
  }

  close() {
    if (this.state === "closed") return;
    this.#source.close();
    this.#change({ state: "closed" });
  }

  [Symbol.asyncIterator]() {
    const loop = new Loop(() => {
      this.#loops.delete(loop);
      if (this.#loops.size === 0 && this.#listeners.size === 0) this.close();
    });
    if (this.state === "closed") loop.end(this.#error);
    else this.#loops.add(loop);
    return loop;
  }

  // receive takes an event of the source. It waits until each loop is ready for the event.
  #receive(event) {
    if (this.state === "closed") return;
    const record = event.type !== "checkpoint" && event.type !== "heartbeat";
    const busy = record ? [...this.#loops].filter((loop) => !loop.ready) : [];
    if (busy.length > 0) return Promise.all(busy.map((loop) => loop.whenReady())).then(() => this.#receive(event));
    this.lastEventId = event.id;
    if (record) this.#deliver(event);
    else if (event.type === "checkpoint" && !this.#live && parseJSON(event.data)?.live) {
      this.#live = true;
      this.#emit("live", { id: event.id });
    }
  }

  #deliver({ type, data, id, fields }) {
    const { time, key, pos } = fields;
    const headers = {};
    for (const name in fields) if (name.startsWith("header.")) headers[name.slice(7)] = fields[name];
    const value = type === "gap" ? { ...parseJSON(data), id } : type === "delete" ? null : this.#parsed(data, type);
    const event = { type, data: value, id, pos, time: time && new Date(Number(time)), key, headers, replayed: !this.#live };
    if (type === "gap") this.#emit("gap", value);
    else {
      if (type !== "live" && type !== "state" && type !== "*") this.#emit(type, event);
      this.#emit("*", event);
    }
    for (const loop of this.#loops) loop.give(event);
  }

  #parsed(data, type) {
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
    if (change.state === "closed") this.#finish(change);
    this.#emit("state", { shared: "alone", ...change });
  }

  #finish({ reason, message }) {
    this.#access.close();
    if (reason) this.#error = Object.assign(new Error(`Herald refuses the stream: ${message}`), { reason });
    if (reason && this.#loops.size === 0 && !this.#listeners.get("state")?.size) report(this.#error);
    for (const loop of this.#loops) loop.end(this.#error);
    this.#loops.clear();
  }

  #emit(type, value) {
    for (const { listener } of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        report(error);
      }
    }
  }
}

// Loop is the iterator of one "for await". It has no queue: the stream is read as fast as the loop takes events.
class Loop {
  #asked = []; // calls of next that wait for an event
  #wake = []; // events that wait for a call of next
  #ended;

  constructor(leave) {
    this.leave = leave;
  }

  get ready() {
    return this.#asked.length > 0 || this.#ended !== undefined;
  }

  whenReady() {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  give(value) {
    this.#asked.shift()?.resolve({ value, done: false });
  }

  end(error) {
    this.#ended ??= { error };
    for (const call of this.#asked.splice(0)) this.#settle(call);
    this.#wakeAll();
  }

  next() {
    return new Promise((resolve, reject) => {
      if (this.#ended) return this.#settle({ resolve, reject });
      this.#asked.push({ resolve, reject });
      this.#wakeAll();
    });
  }

  async return(value) {
    this.leave();
    this.end();
    return { value, done: true };
  }

  #wakeAll() {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #settle({ resolve, reject }) {
    const { error } = this.#ended;
    this.#ended = {};
    if (error) reject(error);
    else resolve({ value: undefined, done: true });
  }
}

function parseJSON(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function report(error) {
  if (globalThis.reportError) globalThis.reportError(error);
  else console.error(error);
}
