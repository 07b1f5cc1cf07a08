// One event stream: the browser's EventSource, and the parts that a page must add.
//
// EventSource reconnects after a broken connection and sends the Last-Event-ID
// header. After an answer that is not 200 it closes for good. Then this class
// opens a new EventSource, after longer and longer delays, with the id in the
// query.

const firstDelay = 1000; // milliseconds
const maxDelay = 30_000;

export class Stream {
  #source = null;
  #timer = 0;
  #attempts = 0;
  #state = "closed";
  #types = new Set();

  // url returns the address to open, with the last event id to resume from.
  // onEvent receives each event as {type, id, data}. onState receives one of
  // connecting, open, retrying, closed. onRefused, which may be missing, is called
  // after an answer that is not a stream.
  constructor({ url, types, onEvent, onState, onRefused }) {
    this.url = url;
    this.onRefused = onRefused;
    this.onEvent = onEvent;
    this.onState = onState;
    for (const type of types) this.#types.add(type);
  }

  get types() { return [...this.#types]; }

  open() {
    if (this.#source || this.#timer) return;
    this.#setState("connecting");
    this.#connect();
  }

  // close ends the connection. No event arrives after it has returned.
  close() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#attempts = 0;
    this.#source?.close();
    this.#source = null;
    this.#setState("closed");
  }

  // listen makes onEvent receive events of the type too.
  listen(type) {
    if (this.#types.has(type)) return;
    this.#types.add(type);
    if (this.#source) this.#add(this.#source, type);
  }

  #connect() {
    const source = new EventSource(this.url());
    this.#source = source;
    for (const type of this.#types) this.#add(source, type);
    // The type of another server's event may be "open" or "error". Such an event is
    // a MessageEvent; the browser's own open and error events are not.
    source.addEventListener("open", (event) => {
      if (event instanceof MessageEvent) return this.#deliver(source, event);
      this.#attempts = 0;
      this.#setState("open");
    });
    source.addEventListener("error", (event) => {
      if (event instanceof MessageEvent) return this.#deliver(source, event);
      if (this.#source !== source) return;
      this.#setState("retrying");
      if (source.readyState !== EventSource.CLOSED) return;
      this.#reopen();
      this.onRefused?.();
    });
  }

  #reopen() {
    this.#source = null;
    const delay = Math.min(maxDelay, firstDelay * 2 ** this.#attempts++);
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      this.#connect();
    }, delay * (0.75 + Math.random() / 2));
  }

  #add(source, type) {
    if (type === "open" || type === "error") return; // #connect listens for them
    source.addEventListener(type, (event) => this.#deliver(source, event));
  }

  #deliver(source, event) {
    if (this.#source !== source) return; // closed in the meantime
    this.onEvent({ type: event.type, id: event.lastEventId, data: event.data });
  }

  #setState(state) {
    if (this.#state === state) return;
    this.#state = state;
    this.onState(state);
  }
}
