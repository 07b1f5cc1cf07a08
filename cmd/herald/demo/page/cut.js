// The account of a time without a connection: which records were written meanwhile, and which of them came.
// The page knows the records that it wrote itself from the answers to its requests, and the records of tasks
// from their numbers. Other records count as records of other writers.

export class Cut {
  began = Date.now();
  took = null; // milliseconds from the reconnection to live
  twice = 0;
  ofTasks = 0; // missed records that are the progress of tasks
  #reconnected = 0; // performance.now() at the reconnection; 0: there is no connection
  #missed = new Map(); // the records written meanwhile, and whether they came
  #others = new Set(); // replayed records that the page does not know

  // kind is "cut" if the person cut the connection, "lost" if it broke, "away" if the page was closed.
  constructor(kind) { this.kind = kind; }

  get open() { return this.#reconnected === 0; }

  get missed() { return this.#missed.size; }

  get caught() { return [...this.#missed.values()].filter(Boolean).length; }

  get others() { return this.#others.size; }

  // expect adds a record that was written meanwhile. Its replay may have come before the answer to its writer.
  expect(record, ofTask = false) {
    if (this.#missed.has(record)) return;
    this.#missed.set(record, this.#others.delete(record));
    if (ofTask) this.ofTasks++;
  }

  reconnect() { this.#reconnected = performance.now(); }

  live() { this.took ??= performance.now() - this.#reconnected; }

  // deliver counts a record that came. The last record before live ends the catching up; records after it count
  // only if they were written meanwhile.
  deliver(record) {
    if (this.#missed.has(record)) this.#missed.set(record, true);
    else if (this.took === null) this.#others.add(record);
  }

  repeat() { this.twice++; }
}
