// Connection keeps one stream open: it sends the requests, reads the events, and decides what follows a failure. client.go
// says how the parts of the module work together.

// Milliseconds.
const firstRetry = 2_000; // until a stream sends one
const firstHeartbeat = 15_000;
const maxBackOff = 30_000;
const maxRetryAfter = 300_000;
const maxTimer = 86_400_000;
const minDelay = 100;
// The characters of an event. Kafka's records have far fewer; a proxy may send a line that never ends.
const maxEvent = 64 << 20;

// The state that follows an end reason, an error code or a status. After all others, the stream waits. Herald answers
// 404 to a wrong path only; another server may answer 404 while Herald is deployed.
const finalStates = {
  "too-many-streams": "replaced",
  revoked: "signed-out", "no-token": "signed-out", 401: "signed-out", 403: "signed-out",
  "foreign-origin": "closed", "not-found": "closed", 400: "closed", 405: "closed", 413: "closed", 414: "closed", 421: "closed", 431: "closed",
};

export function fail(reason, message, more) {
  return Object.assign(new Error(message), { reason }, more);
}

export function parseJSON(text, otherwise) {
  try {
    return JSON.parse(text);
  } catch {
    return otherwise;
  }
}

// Parser follows WHATWG HTML, section 9.2.6, and keeps one event in memory.
export class Parser {
  retry;
  #line = "";
  #afterCR = false; // an LF that comes next belongs to this CR
  #data = [];
  #fields = {};
  #size = 0;
  #decoder = new TextDecoder(); // it removes a byte order mark

  constructor(lastEventId = "") {
    this.lastEventId = lastEventId;
  }

  // push yields the events that bytes complete.
  *push(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    if ((this.#size += text.length) > maxEvent) throw fail("too-large", "An event is too large.");
    const lineEnd = /\r\n?|\n/g;
    let from = (lineEnd.lastIndex = this.#afterCR && text[0] === "\n" ? 1 : 0);
    for (let end; (end = lineEnd.exec(text)); from = lineEnd.lastIndex) {
      const line = this.#line + text.slice(from, end.index);
      this.#line = "";
      if (line) this.#readField(line);
      else yield* this.#takeEvent();
    }
    this.#line += text.slice(from);
    if (text) this.#afterCR = text.endsWith("\r");
  }

  // readField keeps the fields that Herald adds to the standard's: time, key, pos and header.NAME.
  #readField(line) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data.push(value);
    else if (name === "id") this.lastEventId = value.includes("\0") ? this.lastEventId : value;
    else if (name === "retry") this.retry = /^\d+$/.test(value) ? Number(value) : this.retry;
    else if (name) this.#fields[name] = value;
  }

  *#takeEvent() {
    const { event, ...fields } = this.#fields;
    const data = this.#data;
    this.#data = [];
    this.#fields = {};
    this.#size = 0;
    if (data.length) yield { type: event || "message", data: data.join("\n"), id: this.lastEventId, fields };
  }
}

// parseEvents yields the events of a response's body. It calls heard for each chunk.
export async function* parseEvents(body, parser = new Parser(), heard = () => {}) {
  const reader = body.getReader();
  try {
    for (let chunk; !(chunk = await reader.read()).done; ) {
      heard();
      yield* parser.push(chunk.value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Access sends requests, with the token or the session cookie.
export class Access {
  expires = 0; // when the session ends
  ended = new AbortController();

  constructor(url, token, session, fetch = globalThis.fetch) {
    Object.assign(this, { url, token, fetch, session: session && new URL(session === true ? "session" : session, url) });
  }

  // open returns the response of a stream. It answers one 401 by a new token.
  async open(query, lastEventId, signal) {
    try {
      return await this.#get(query, lastEventId, signal);
    } catch (failure) {
      if (failure.status !== 401 || !this.token) throw failure;
      this.renew(failure.reason);
      return this.#get(query, lastEventId, signal);
    }
  }

  // renew makes the next request ask for a new token, unless the session outlives the stream that has expired.
  renew(reason) {
    if (reason === "token-expired" && Date.now() < this.expires) return;
    Object.assign(this, { bearer: undefined, expires: 0, refusal: reason });
  }

  close() {
    this.ended.abort();
    clearTimeout(this.timer);
  }

  async #get(query, lastEventId, signal) {
    const headers = { Accept: "text/event-stream" };
    if (this.token && !(this.bearer || Date.now() < this.expires)) await this.#getToken();
    if (this.bearer) headers.Authorization = `Bearer ${this.bearer}`;
    if (lastEventId) headers["Last-Event-ID"] = encodeURIComponent(lastEventId); // Herald's ids do not change
    const url = new URL(this.url);
    for (const name in query) url.searchParams.set(name, query[name]);
    return this.#request(url, { headers, signal });
  }

  // getToken never calls token() twice at a time: the second token may invalidate the first.
  #getToken() {
    const pending = (this.pending ??= this.#askForToken().finally(() => {
      if (this.pending === pending) this.pending = undefined;
    }));
    return pending;
  }

  async #askForToken() {
    let token;
    try {
      token = await this.token(this.refusal);
    } catch (error) {
      throw fail("token", `token() failed: ${error?.message ?? error}`);
    }
    // A page that has closed the stream may have signed out: it gets no session.
    if (typeof token !== "string" || !token || this.ended.signal.aborted) throw fail("no-token", "token() must return a string.");
    this.refusal = undefined;
    if (!this.session) return (this.bearer = token);
    const headers = { Authorization: `Bearer ${token}` };
    const response = await this.#request(this.session, { method: "POST", headers, signal: AbortSignal.timeout(maxBackOff) });
    this.expires = Date.parse((await response.json()).expires);
    this.#renewSession();
  }

  // renewSession renews the session at 80 % of its life, and after a failure at 80 % of the rest.
  #renewSession() {
    const left = this.expires - Date.now();
    clearTimeout(this.timer);
    if (this.ended.signal.aborted || !(left > 1_000)) return;
    this.timer = setTimeout(() => this.#getToken().catch(() => this.#renewSession()), Math.min(left * 0.8, maxTimer));
  }

  // request returns the answer to a POST, or a stream. It follows no redirect: the token is for this server only.
  async #request(url, init) {
    const { fetch, session } = this;
    const response = await fetch(url, { cache: "no-store", credentials: session ? "include" : "same-origin", redirect: "manual", ...init });
    const { ok, status, headers, body } = response;
    const type = headers.get("Content-Type");
    if (ok && (init.method || /^text\/event-stream\b/i.test(type))) return response;
    if (status < 400) body?.cancel().catch(() => {}); // it may never end
    const other = ok ? "not-a-stream" : status < 400 ? "redirect" : String(status);
    const { code = other, reason = code, message } = (await response.json().catch(() => {}))?.error ?? {};
    const retryAfter = headers.get("Retry-After") * 1000 || undefined;
    // The URL may be wrong. Its parameters are long.
    const place = status === 404 || !message ? url.origin + url.pathname + ": " : "";
    throw fail(reason, place + (message ?? `not an answer of Herald: ${reason}, status ${status}, Content-Type ${type}`), { status, retryAfter });
  }
}

// Connection is the source that has a stream of its own. It keeps the stream open.
export class Connection {
  heartbeat = firstHeartbeat;
  retry = firstRetry;
  failures = 1; // since a stream was live
  attempt = new AbortController();
  ended = new AbortController();

  // query has further parameters. With wait, responses end by themselves, and the next request follows at once.
  constructor(access, sink, staleAfter, query = {}) {
    Object.assign(this, { access, sink, staleAfter, query });
  }

  start() {
    const { document, addEventListener = () => {} } = globalThis;
    const { signal } = this.ended;
    const on = (type, listener) => addEventListener(type, listener, { signal });
    document?.addEventListener("visibilitychange", () => document.hidden || this.wake("replaced"), { signal });
    on("online", () => this.wake());
    on("pageshow", (event) => event.persisted && this.wake("hidden"));
    on("pagehide", (event) => event.persisted && this.#hide());
    this.open();
  }

  reconnect() {
    this.failures = 1;
    this.access.pending = undefined; // a call of token() that hangs
    this.open();
  }

  close(change) {
    this.ended.abort();
    this.#rest({ state: "closed", ...change });
  }

  // wake connects if the stream waits, is in the given state, or is dead.
  wake(state) {
    const dead = ["connecting", "open"].includes(this.state) && this.#isSilent();
    if (dead || ["waiting", "offline", state].includes(this.state)) this.open();
  }

  // hide closes the connection of a page that the browser keeps for the user's return (bfcache).
  #hide() {
    if (["signed-out", "replaced"].includes(this.state)) return;
    this.#rest();
    this.state = "hidden";
  }

  // rest ends the attempt, or the wait for the next.
  #rest(change) {
    this.attempt.abort();
    clearTimeout(this.timer);
    if (change) this.#change(change);
  }

  #change(change) {
    this.state = change.state;
    this.sink.state(change);
  }

  async open() {
    if (this.ended.signal.aborted) return; // by a listener
    this.#rest();
    const { signal } = (this.attempt = new AbortController());
    this.heardAt = this.openedAt = Date.now();
    this.#watch();
    this.#change({ state: "connecting" });
    let parser;
    try {
      while (!signal.aborted) {
        parser = new Parser(this.sink.position());
        await this.#read(await this.access.open(this.query, parser.lastEventId, signal), parser, signal);
      }
    } catch (failure) {
      this.retry = parser.retry ?? this.retry;
      if (!signal.aborted) this.#settle(failure, failure.retryAfter ?? parser.retry ?? 0);
    }
  }

  // read gives the events to the sink until the stream ends, and throws the reason. While the sink is not ready, the
  // stream is not read, so nothing is heard.
  async #read(response, parser, signal) {
    let none = true;
    for await (const event of parseEvents(response.body, parser, () => (this.heardAt = Date.now()))) {
      none = false;
      if (event.type === "end") this.#readEnd(parseJSON(event.data) ?? {});
      if (!signal.aborted && this.state !== "open") this.#change({ state: "open" });
      for (let ready; !signal.aborted && (ready = this.sink.event(event)); this.heardAt = Date.now()) {
        this.heardAt = NaN;
        await ready;
      }
      if (signal.aborted) return;
      if (event.type === "checkpoint") this.#readCheckpoint(parseJSON(event.data));
      else if (event.type !== "heartbeat") this.failures = Math.min(this.failures, 1); // a long replay makes progress
    }
    if (none || !this.query.wait) throw fail("", "it was cut");
  }

  #readEnd({ reason }) {
    throw fail(reason, `The server has ended the stream: ${reason}.`);
  }

  #readCheckpoint(data) {
    if (data?.live) this.failures = 0;
    if (!data?.heartbeat) return;
    this.heartbeat = data.heartbeat;
    clearTimeout(this.timer); // the watchdog has looked at the time by the default until now
    this.#watch();
  }

  // settle decides what follows a failure. least is the least time to wait, as the server has sent it.
  #settle({ reason, message, status }, least) {
    if (!reason) {
      reason = "network";
      message = `There is no connection to the server (${message}).`;
      // A browser does not say that the server does not allow the page's origin.
      const server = this.access.url.origin;
      const { origin = server } = globalThis; // Node.js has none
      if (origin !== server && !this.sink.position()) message += ` Does --allow-origin list ${origin}?`;
    }
    const state = finalStates[reason] ?? finalStates[status];
    if (reason === "token-expired") {
      this.access.renew(reason);
      if (!this.failures && Date.now() - this.openedAt > firstRetry) return this.open();
    }
    if (state === "closed") this.close({ reason, message });
    else if (state) this.#rest({ state, reason, message });
    else this.#wait(reason, message, Math.min(least, maxRetryAfter));
  }

  // wait adds a random time, whose bound doubles, so that clients which failed together do not return together. The
  // server has chosen the time after a live stream at random already.
  #wait(reason, message, least) {
    const bound = this.failures && Math.min(maxBackOff, this.retry * 2 ** (this.failures - 1));
    const delay = Math.max(least + Math.random() * bound, minDelay);
    this.failures++;
    this.#rest();
    this.timer = setTimeout(() => this.open(), delay);
    const state = globalThis.navigator?.onLine === false ? "offline" : "waiting";
    this.#change({ state, reason, message, until: new Date(Date.now() + delay) });
  }

  #limit() {
    return Math.max(this.staleAfter ?? 2.5 * this.heartbeat, 1.1 * this.heartbeat);
  }

  // isSilent is true after a clock is set back, too: otherwise a dead connection would stay as long.
  #isSilent() {
    return Math.abs(Date.now() - this.heardAt) > this.#limit();
  }

  // watch compares times of day: timers sleep with the computer.
  #watch() {
    this.timer = setTimeout(() => {
      if (!this.#isSilent()) return this.#watch();
      if (this.state !== "open") return this.#wait("timeout", "The server or token() does not answer.", 0);
      this.#change({ state: "stale", reason: "timeout" });
      this.open();
    }, Math.min(this.#limit() / 4, maxTimer));
  }
}
