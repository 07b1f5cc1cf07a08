// A simulation of tabs that share a stream. One seed is one history of tabs that open, close, reload, crash, freeze and
// thaw, of connections that break, of replicas that lag, of topics that lose records, and of users
// who sign in and out. Each page checks each event; see Story.
import { World } from "./simulation-world.js";
import { Story, Tab } from "./simulation-page.js";

export class History {
  tabs = [];
  opened = 0;

  constructor(seed, share) {
    this.world = new World(seed);
    this.share = share;
    // A history has faults of some kinds only: otherwise the rare ones would hide the others.
    this.kinds = new Set(Object.keys(faults).filter(() => this.world.below(3) > 0));
  }

  open(story = new Story(this.world, `tab ${this.opened}`)) {
    const { world } = this;
    this.opened++;
    const since = !story.id && world.below(3) === 0;
    const tab = new Tab(world, story, { since, slow: world.below(6) === 0, share: this.share });
    this.tabs.push(tab);
    return tab;
  }

  remove(tab) {
    this.tabs.splice(this.tabs.indexOf(tab), 1);
  }

  awake() {
    return this.tabs.filter((tab) => !tab.frozen);
  }

  async play(steps) {
    const { world } = this;
    for (let i = 0; i < 5; i++) this.produceSome();
    for (let i = 0; i < 2 + world.below(3); i++) this.open();
    for (let i = 0; i < steps; i++) {
      await world.run(world.random() ** 3 * (world.below(10) === 0 ? 60_000 : 300));
      const kind = world.below(2) === 0 ? "produceSome" : world.pick(Object.keys(faults));
      if (kind === "produceSome") this.produceSome();
      else if (this.kinds.has(kind)) faults[kind](this, world);
    }
    await this.settle();
  }

  produceSome() {
    const { world } = this;
    for (let i = 1 + world.below(4); i > 0; i--) world.produce(world.pick(Object.keys(world.logs)), world.pick(["alice", "alice", "bob", "all", "other", "other"]));
  }

  // settle ends the faults of the network, then the faults of the tabs. In the end each tab has everything, by one stream for
  // each user.
  async settle() {
    const { world } = this;
    world.down = false;
    for (const tab of this.tabs) tab.badToken = tab.deaf = false;
    await world.run(10_000);
    await this.check(this.awake());
    for (const tab of this.tabs) if (tab.frozen) faults.thaw(this, world, tab);
    await world.run(10_000);
    await this.check(this.tabs);
    const users = new Set(this.tabs.map((tab) => tab.story.user)).size;
    const { size } = world.connections;
    if (size !== users) throw new Error(`${this.tabs.length} tabs of ${users} users have ${size} connections in the end`);
  }

  async check(tabs) {
    const { world } = this;
    for (const tab of tabs) if (tab.state === "signed-out") tab.source.reconnect();
    await world.run(60_000);
    for (let i = 0; i < 3; i++) this.produceSome();
    await world.run(60_000);
    for (const { story, state } of tabs) {
      const missing = story.missing();
      if (missing.length > 0) story.fail(`LOSS in the end, in state ${state}: ${missing}`);
      if (state !== "open") story.fail(`is ${state} in the end`);
    }
  }
}

const faults = {
  open(history) {
    if (history.tabs.length < 7) history.open();
  },
  close(history, world) {
    const tab = world.pick(history.awake());
    if (!tab) return;
    history.remove(tab);
    tab.close();
  },
  reload(history, world) {
    const tab = world.pick(history.awake());
    if (!tab) return;
    history.remove(tab);
    tab.close();
    world.later(world.random() * 100, () => history.open(tab.story));
  },
  crash(history, world) {
    const tab = world.pick(history.tabs);
    if (!tab) return;
    history.remove(tab);
    world.crash(tab);
    if (world.below(2) === 0) world.later(world.random() * 100, () => history.open(tab.story));
  },
  freeze(history, world) {
    const tab = world.pick(history.awake());
    if (!tab) return;
    tab.told = world.below(2) === 0;
    if (tab.told) tab.browser.document.dispatchEvent(new Event("freeze"));
    world.freeze(tab, world.below(2) === 0);
  },
  thaw(history, world, tab = world.pick(history.tabs.filter((tab) => tab.frozen))) {
    if (!tab) return;
    world.thaw(tab);
    if (tab.told) tab.browser.document.dispatchEvent(new Event("resume"));
  },
  // deafen makes messages of the channel pass a tab by.
  deafen(history, world) {
    const tab = world.pick(history.awake());
    if (tab) tab.deaf = !tab.deaf;
  },
  look(history, world) {
    const tab = world.pick(history.awake());
    if (!tab) return;
    const { document } = tab.browser;
    document.hidden = !document.hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  },
  cut(history, world) {
    const connection = world.pick([...world.connections]);
    if (connection?.response) world.later(1, () => connection.response && connection.fail(), connection.tab);
  },
  down(history, world) {
    world.down = !world.down;
    if (world.down) for (const connection of world.connections) if (connection.response) world.later(1, () => connection.response && connection.fail(), connection.tab);
  },
  restart(history, world) {
    const replica = world.pick(world.replicas);
    for (const connection of world.connections) if (connection.response?.replica === replica) world.later(1, () => connection.response && connection.fail(), connection.tab);
  },
  lag(history, world) {
    world.pick(world.replicas).lag = world.pick([2, 50, 1_000, 10_000]);
  },
  reconnect(history, world) {
    world.pick(history.awake())?.source.reconnect();
  },
  cookie(history, world) {
    world.user = world.user === "alice" ? "bob" : "alice";
  },
  token(history, world) {
    const tab = world.pick(history.tabs);
    if (tab) tab.badToken = !tab.badToken;
  },
  retention(history, world) {
    const log = world.pick(Object.values(world.logs));
    log.start = Math.max(log.start, Math.min(...world.replicas.map((r) => r.known[Object.keys(world.logs).find((p) => world.logs[p] === log)])) - world.below(6));
  },
  recreate(history, world) {
    if (world.below(4) === 0) world.recreate(world.pick(Object.values(world.topics)));
  },
};

// simulate plays the history of a seed. share is the function under test.
export async function simulate(seed, { share, steps = 60 } = {}) {
  const { random } = Math;
  const history = new History(seed, share);
  Math.random = () => history.world.random();
  const note = (error) => (history.world.failure ??= error);
  process.on("unhandledRejection", note);
  try {
    await history.play(steps);
    if (history.world.failure) throw history.world.failure;
  } catch (error) {
    throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
  } finally {
    Math.random = random;
    process.off("unhandledRejection", note);
  }
}
