// The world of the simulation: a clock, Herald's replicas and logs, and the browser's locks and channels.

// random returns a generator of numbers from 0 to 1: one seed is one history.
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export class World {
  now = 1_000_000;
  tasks = [];
  order = 0;
  user = "alice"; // the user of the cookie
  down = false; // no replica answers
  locks = new Map();
  ports = new Map();
  connections = new Set();
  topics = { news: { name: "news", incarnation: 1, partitions: 1 }, notes: { name: "notes", incarnation: 1, partitions: 2 } };
  logs = {}; // partition → {start, records}; a record is its user
  replicas = [];

  constructor(seed) {
    this.random = random(seed);
    for (const topic of Object.values(this.topics)) this.createLogs(topic);
    for (let i = 0; i < 3; i++) this.replicas.push({ lag: this.below(4) === 0 ? 3_000 : 20, known: {} });
  }

  below(n) {
    return Math.floor(this.random() * n);
  }

  pick(list) {
    return list[this.below(list.length)];
  }

  // later runs a task for a tab, or for nobody. The tasks of a frozen tab wait, and a dead tab has none.
  later(delay, task, tab) {
    this.tasks.push({ at: this.now + delay, order: this.order++, task, tab });
  }

  async run(duration) {
    const end = this.now + duration;
    for (;;) {
      let next;
      for (const task of this.tasks) {
        if (!next || task.at < next.at || (task.at === next.at && task.order < next.order)) next = task;
      }
      if (!next || next.at > end) break;
      this.tasks.splice(this.tasks.indexOf(next), 1);
      this.now = Math.max(this.now, next.at);
      if (next.tab?.dead) continue;
      if (next.tab?.frozen) next.tab.held.push(next);
      else next.task();
      await new Promise(setImmediate);
      if (this.failure) throw this.failure;
    }
    this.now = end;
  }

  // ---- Kafka and Herald

  createLogs(topic) {
    for (let i = 0; i < topic.partitions; i++) {
      const p = `${topic.name}-${i}`;
      this.logs[p] = { topic, start: 0, records: [] };
      for (const replica of this.replicas) replica.known[p] = 0;
    }
  }

  produce(p, user) {
    const log = this.logs[p];
    log.records.push(user);
    const end = log.records.length;
    for (const replica of this.replicas) {
      this.later(1 + this.random() * replica.lag, () => {
        if (this.logs[p] !== log || end <= (replica.known[p] ?? 0)) return;
        replica.known[p] = end;
        for (const connection of this.connections) if (connection.response?.replica === replica) connection.response.step();
      });
    }
  }

  recreate(topic) {
    topic.incarnation++;
    this.createLogs(topic);
    for (const { response } of this.connections) if (response) this.later(this.random() * 2_000, () => response.step());
  }

  // encode and decode an id: it has the incarnations and the last offsets considered.
  encode(cursor) {
    const sources = Object.values(this.topics).map((topic) => {
      const { incarnation, offsets } = cursor[topic.name];
      return `~${topic.name.padEnd(6, "0")}${String(incarnation).padStart(6, "0")}${offsets.map((o, i) => `.${i}${o < 0 ? "" : `-${o}`}`).join("")}`;
    });
    return `1${sources.join("")}`;
  }

  decode(id) {
    const cursor = {};
    for (const [, name, incarnation, places] of id.matchAll(/~(\w{6})(\w{6})([^~]*)/g)) {
      const offsets = [...places.matchAll(/\.\d+(?:-(\d+))?/g)].map(([, o]) => (o === undefined ? -1 : Number(o)));
      cursor[name.replace(/0+$/, "")] = { incarnation: Number(incarnation), offsets };
    }
    return cursor;
  }

  // ---- The browser

  browserOf(tab) {
    const world = this;
    const document = Object.assign(new EventTarget(), { hidden: false });
    class BroadcastChannel {
      constructor(name) {
        if (!world.ports.has(name)) world.ports.set(name, new Set());
        this.group = world.ports.get(name).add(this);
        this.tab = tab;
        this.arrival = new Map();
      }
      postMessage(message) {
        if (this.closed) throw new Error("the channel is closed");
        const text = JSON.stringify(message);
        for (const port of this.group) {
          if (port === this) continue;
          const at = Math.max(this.arrival.get(port) ?? 0, world.now + world.random() * 4);
          this.arrival.set(port, at);
          if (port.tab.deaf || (port.tab.frozen && port.tab.loses)) continue;
          world.later(at - world.now, () => port.closed || port.onmessage?.({ data: JSON.parse(text) }), port.tab);
        }
      }
      close() {
        this.closed = true;
        this.group.delete(this);
      }
    }
    return Object.assign(new EventTarget(), {
      document,
      BroadcastChannel,
      Date: { now: () => world.now },
      navigator: { locks: { request: (...args) => world.requestLock(tab, ...args), query: async () => ({ held: [...world.locks].filter(([, l]) => l.holder).map(([name]) => ({ name })) }) } },
      setInterval: (task, interval) => {
        const timer = { on: true };
        const tick = () => {
          if (!timer.on) return;
          task();
          world.later(interval * (document.hidden ? 1 + world.below(20) : 1), tick, tab);
        };
        world.later(interval, tick, tab);
        return timer;
      },
      clearInterval: (timer) => timer && (timer.on = false),
    });
  }

  requestLock(tab, name, { signal, steal }, callback) {
    if (!this.locks.has(name)) this.locks.set(name, { holder: undefined, queue: [] });
    const lock = this.locks.get(name);
    return new Promise((resolve, reject) => {
      const request = { tab, callback, resolve, reject };
      signal?.addEventListener("abort", () => {
        if (!lock.queue.includes(request)) return;
        lock.queue.splice(lock.queue.indexOf(request), 1);
        reject(new Error("aborted"));
      });
      if (steal) {
        const stolen = lock.holder;
        lock.holder = undefined;
        if (stolen) this.later(0, () => stolen.reject(new Error("stolen")), stolen.tab);
        lock.queue.unshift(request);
      } else lock.queue.push(request);
      this.grant(lock);
    });
  }

  grant(lock) {
    if (lock.holder || lock.queue.length === 0) return;
    const holder = (lock.holder = lock.queue.shift());
    const free = () => {
      if (lock.holder !== holder) return;
      lock.holder = undefined;
      this.grant(lock);
    };
    holder.free = free;
    this.later(this.random(), async () => {
      await holder.callback();
      this.later(0, free);
      holder.resolve();
    }, holder.tab);
  }

  // crash ends a tab without a goodbye.
  crash(tab) {
    tab.dead = true;
    for (const lock of this.locks.values()) {
      lock.queue = lock.queue.filter((request) => request.tab !== tab);
      if (lock.holder?.tab === tab) this.later(this.random() * 5, lock.holder.free);
    }
    for (const group of this.ports.values()) for (const port of group) if (port.tab === tab) port.close();
    for (const connection of this.connections) if (connection.tab === tab) connection.drop();
  }

  freeze(tab, loses) {
    Object.assign(tab, { frozen: true, loses, held: [] });
  }

  thaw(tab) {
    tab.frozen = false;
    for (const task of tab.held.splice(0)) this.later(0, task.task, tab);
  }
}
