// A server for tests: a fetch whose answers a test chooses, and whose streams it writes.
import { mock } from "node:test";

const encoder = new TextEncoder();

// Time that a test moves. Promises need real turns.
export function fakeClock(t) {
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_764_400_000_000 });
  t.after(() => mock.timers.reset());
  return {
    // tick moves the time in steps, so that timers that a timer sets run too.
    async tick(milliseconds, step = 250) {
      for (let left = milliseconds; left > 0; left -= step) {
        mock.timers.tick(Math.min(step, left));
        await turns();
      }
    },
    // sleep moves the time of day alone, as a computer that sleeps.
    sleep: (milliseconds) => mock.timers.setTime(Date.now() + milliseconds),
  };
}

// turns waits until promises and streams have run.
export async function turns() {
  for (let n = 0; n < 12; n++) await new Promise((resolve) => setImmediate(resolve));
}

// FakeServer answers each request by the next of its answers, and by the last one again and again. An answer is a
// function (request) → Response.
export class FakeServer {
  requests = [];
  streams = [];

  constructor(...answers) {
    this.answers = answers;
    this.fetch = async (url, init) => {
      init.signal?.throwIfAborted();
      const request = { url: new URL(url), ...init, at: Date.now() };
      const answer = this.answers[Math.min(this.requests.push(request), this.answers.length) - 1];
      return answer.call(this, request);
    };
  }

  get last() {
    return this.streams.at(-1);
  }
}

// stream answers by an event stream that begins with text.
export const stream = (...texts) => function answer({ signal }) {
  let controller;
  const body = new ReadableStream({ start: (c) => { controller = c; } }, { highWaterMark: 0 });
  signal?.addEventListener("abort", () => { opened.aborted = true; try { controller.error(signal.reason); } catch { /* it has ended */ } });
  const opened = {
    aborted: false,
    send: (text) => controller.enqueue(encoder.encode(text)),
    end: () => controller.close(),
    cut: () => controller.error(new TypeError("network error")),
    get desiredSize() { return controller.desiredSize; },
  };
  for (const text of texts) opened.send(text);
  this.streams.push(opened);
  return new Response(body, { headers: { "Content-Type": "text/event-stream; charset=utf-8" } });
};

// ended answers by a stream of Herald's that ends at once.
export const ended = (reason, retry = 10_000) => function answer(request) {
  const response = stream(`:\nretry: ${retry}\nevent: end\ndata: {"reason":"${reason}"}\n\n`).call(this, request);
  this.last.end();
  return response;
};

// refused answers as Herald refuses a request.
export const refused = (status, code, reason, headers) => () =>
  Response.json({ error: { code, reason, message: `because of ${code}` } }, { status, headers });

// page answers as another server.
export const page = (status, headers) => () => new Response("<p>no", { status, headers: { "Content-Type": "text/html", ...headers } });

export const unreachable = () => { throw new TypeError("fetch failed"); };

export const never = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

export const opening = (id = "1~a", told = {}) => `:\nretry: 2000\nid: ${id}\nevent: checkpoint\ndata: ${JSON.stringify({ heartbeat: 15_000, ...told })}\n\n`;
export const live = (id = "1~a") => opening(id, { live: true });
export const record = (id, data = `"${id}"`, type = "message") => `id: ${id}\nevent: ${type}\ndata: ${data}\n\n`;

// watch collects what a stream says.
export function watch(opened) {
  const seen = { states: [], changes: [], events: [], lives: 0, gaps: [] };
  opened.on("state", (change) => { seen.changes.push({ ...change, at: Date.now() }); seen.states.push(change.state); });
  opened.on("*", (event) => seen.events.push(event));
  opened.on("gap", (gap) => seen.gaps.push(gap));
  opened.on("live", () => { seen.lives++; });
  return seen;
}
