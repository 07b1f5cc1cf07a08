// One event stream, read by fetch. The browser's EventSource passes an event only to listeners for the event's
// type, and does not say why a server refused the stream.

const firstDelay = 1000; // milliseconds
const maxDelay = 10_000;

export class Stream {
  #stop = null; // the AbortController of an open stream
  #retry = firstDelay;

  // request returns the Request that resumes the stream. admit decides whether the events of an accepted
  // stream may be shown; if it returns false, it has closed the stream. onEvent receives each event as
  // {type, id, data}. onState receives connecting, open or retrying, and the reason if there is one.
  constructor({ request, admit, onEvent, onState }) {
    Object.assign(this, { request, admit, onEvent, onState });
  }

  open() {
    if (this.#stop) return;
    this.#stop = new AbortController();
    this.#run(this.#stop.signal);
  }

  // close ends the stream. No event arrives after it has returned.
  close() {
    this.#stop?.abort();
    this.#stop = null;
  }

  // run reads one connection after the other until the stream is closed.
  async #run(signal) {
    this.onState("connecting");
    for (let failures = 0; !signal.aborted; ) {
      let why = "The connection ended.";
      const opened = () => {
        failures = 0;
        this.onState("open");
      };
      try {
        await this.#read(signal, opened);
      } catch (error) {
        why = error instanceof TypeError ? "There is no connection to the server." : error.message;
      }
      if (signal.aborted) return;
      this.onState("retrying", why);
      const delay = failures ? Math.min(maxDelay, firstDelay * 2 ** failures) * (0.75 + Math.random() / 2) : this.#retry;
      failures++;
      await new Promise((resolve) => { setTimeout(resolve, delay); });
    }
  }

  // read reads the events of one connection. It throws an error if there is no connection or no stream.
  async #read(signal, opened) {
    const response = await fetch(this.request(), { signal });
    if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      const answer = await response.json().catch(() => null);
      const advice = [400, 401].includes(response.status) ? " If the server wants a token now, reload the page." : "";
      throw new Error(`The server answered ${response.status} instead of a stream: ${answer?.error?.message ?? response.statusText}.${advice}`);
    }
    if (!await this.admit(response) || signal.aborted) return;
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for await (const event of parse(reader, (delay) => { this.#retry = delay; })) {
      if (signal.aborted) return;
      this.onEvent(event);
    }
  }
}

// parse yields the events of a stream (WHATWG HTML, section 9.2.6). It expects lines that end with LF, as
// Herald's do. onRetry receives the reconnection time that the server asks for.
async function* parse(reader, onRetry) {
  let rest = "";
  let id = "";
  let type = "";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield { type: type || "message", id, data: data.join("\n") };
        type = "";
        data = [];
        continue;
      }
      const [, field, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === "id") id = text;
      else if (field === "event") type = text;
      else if (field === "data") data.push(text);
      else if (field === "retry") onRetry(Number(text));
    }
  }
}
