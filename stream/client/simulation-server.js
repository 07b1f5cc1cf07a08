// The simulated server: what a replica answers, and the connection that the tests put in the place of herald.js's own.

// Response is a stream, or a poll if it has wait.
class Response {
  constructor(world, user, id, { since, wait, emit, end }) {
    Object.assign(this, { world, user, wait: wait && 2_000, emit, end, sent: 0, live: false });
    this.replica = world.pick(world.replicas);
    this.cursor = id ? world.decode(id) : {};
    for (const topic of Object.values(world.topics)) {
      const now = Array.from({ length: topic.partitions }, (_, i) => (since ? -1 : (this.replica.known[`${topic.name}-${i}`] ?? 0) - 1));
      this.cursor[topic.name] ??= { incarnation: topic.incarnation, offsets: now };
    }
    this.checkpoint({ viewer: user, heartbeat: 15_000 }, this.missesNothing());
    this.loop();
    if (!wait) this.beat();
  }

  send(event) {
    this.emit({ fields: {}, ...event, id: this.world.encode(this.cursor) });
  }

  checkpoint(data, live) {
    const pos = {};
    for (const [name, { offsets }] of Object.entries(this.cursor)) offsets.forEach((o, i) => (pos[`${name}-${i}`] = o));
    if (live) this.live = true;
    this.send({ type: "checkpoint", data: JSON.stringify({ ...data, pos, ...(live && { live }) }) });
  }

  missesNothing() {
    return Object.values(this.world.topics).every(({ name, incarnation, partitions }) => {
      const cursor = this.cursor[name];
      return cursor.incarnation === incarnation && cursor.offsets.length === partitions && cursor.offsets.every((o, i) => o + 1 >= (this.replica.known[`${name}-${i}`] ?? 0));
    });
  }

  step() {
    if (!this.ended && !this.scheduled) this.loop();
  }

  // loop sends one event at a time.
  loop() {
    this.scheduled = true;
    this.world.later(this.world.random() * 2, () => {
      this.scheduled = false;
      if (this.ended) return;
      if (!this.missesNothing()) {
        this.next();
        return this.loop();
      }
      const first = !this.live;
      if (first) this.checkpoint({}, true);
      if (!this.wait) return undefined;
      if (this.sent > 0) {
        if (!first) this.checkpoint({}, true);
        return this.finish();
      }
      if (this.waiting) return;
      this.waiting = true;
      this.world.later(this.wait, () => {
        if (this.ended || this.scheduled) return;
        this.checkpoint({}, true);
        this.finish();
      });
    });
  }

  finish() {
    this.ended = true;
    this.end();
  }

  beat() {
    this.world.later(15_000, () => {
      if (this.ended) return;
      this.send({ type: "heartbeat", data: "{}" });
      this.beat();
    });
  }

  // next considers a record, or reports a loss.
  next() {
    const { world, cursor, replica } = this;
    for (const topic of Object.values(world.topics)) {
      const { name, incarnation, partitions } = topic;
      if (cursor[name].incarnation === incarnation) continue;
      cursor[name] = { incarnation, offsets: Array(partitions).fill(-1) };
      this.sent++;
      return this.send({ type: "gap", data: JSON.stringify({ source: name, reason: "recreated" }) });
    }
    const behind = Object.keys(world.logs).filter((p) => {
      const [name, i] = p.split("-");
      return cursor[name].offsets[i] + 1 < (replica.known[p] ?? 0);
    });
    const p = world.pick(behind);
    const [name, i] = p.split("-");
    const { start, records } = world.logs[p];
    const { offsets } = cursor[name];
    if (offsets[i] + 1 < start) {
      const data = JSON.stringify({ source: name, partition: Number(i), from: offsets[i] + 1, to: start, reason: "retention" });
      offsets[i] = start - 1;
      this.sent++;
      return this.send({ type: "gap", data });
    }
    const user = records[++offsets[i]];
    if (user !== this.user && user !== "all") return;
    this.sent++;
    this.send({ type: "message", data: user, fields: { pos: `${p}@${offsets[i]}` } });
  }
}

// Connection is as herald.js's, with the world's network.
export class Connection {
  constructor(world, tab, sink, query = {}) {
    Object.assign(this, { world, tab, sink, query });
  }

  start() {
    if (this.tab.dead) return;
    this.world.connections.add(this);
    this.open();
  }

  reconnect() {
    if (!this.closed) this.open();
  }

  // wake is as the page's own events: a user looks at the tab.
  wake() {
    if (this.state === "waiting") this.open();
  }

  close() {
    if (this.closed) return;
    this.drop();
    this.sink.state({ state: "closed" });
  }

  // drop ends the connection without a word, as a crash of the tab does.
  drop() {
    this.closed = true;
    this.cut();
    this.world.connections.delete(this);
  }

  cut() {
    if (this.response) this.response.ended = true;
    this.response = undefined;
    this.attempt = undefined;
  }

  change(state) {
    this.state = state;
    this.sink.state({ state });
  }

  open() {
    this.cut();
    const attempt = (this.attempt = {});
    const { world, tab } = this;
    const inTab = (task) => (...args) => world.later(this.arrival(), () => this.attempt === attempt && task(...args), tab);
    this.change("connecting");
    if (this.attempt !== attempt) return;
    const id = this.sink.position();
    world.later(world.random() * 40, () => {
      if (this.attempt !== attempt || tab.dead) return;
      if (world.down) return inTab(() => this.fail())();
      if (tab.badToken) return inTab(() => (this.cut(), this.change("signed-out")))();
      const emit = inTab((event) => this.take(event, attempt));
      const end = inTab(() => this.open());
      this.response = new Response(world, world.user, id, { since: tab.since, wait: this.query.wait, emit, end });
    });
  }

  // arrival keeps the order of what the network brings.
  arrival() {
    this.arrivesAt = Math.max(this.arrivesAt ?? 0, this.world.now + this.world.random() * 5);
    return this.arrivesAt - this.world.now;
  }

  fail() {
    this.cut();
    this.change("waiting");
    const attempt = (this.attempt = {});
    this.world.later(500 + this.world.random() * 3_000, () => this.attempt === attempt && this.open(), this.tab);
  }

  // take gives the sink an event, after those for which the sink was not ready.
  async take(event, attempt) {
    this.line = (this.line ?? Promise.resolve()).then(async () => {
      if (this.attempt !== attempt) return;
      if (this.state !== "open") this.change("open");
      if (this.attempt !== attempt) return;
      if (event.type === "checkpoint" && !this.query.wait) this.tab.streams++;
      if (event.type === "checkpoint") this.tab.seen(JSON.parse(event.data).viewer);
      for (let wait; this.attempt === attempt && (wait = this.sink.event(event)); ) await wait;
    }).catch((error) => (this.world.failure ??= error));
  }
}
