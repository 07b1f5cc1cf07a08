// One connection for all tabs of a site: connect(url, {share: true}).
//
// The tabs that see the same (the URL, the types, the viewer) form a group. The tab that holds the group's Web Lock owns
// the stream, and posts each event to the group's BroadcastChannel: the feed. Each tab has its own position. A tab may
// take the owner's id only where both have considered the same records: otherwise a reload from that id would lose or
// repeat a record. So a tab joins thus:
//
//  1. It says hello, and the owner answers by its id. From then on the messages of the feed wait.
//  2. The tab is behind if the owner or a waiting message has a record that the tab lacks. Then it polls the server from
//     its own position, and gives the new events to the page.
//  3. The tab is ahead if the page has a record that the owner lacks. Then it passes over waiting messages.
//  4. Once the tab is neither, it takes the owner's id. From there on, the page gets each message of the feed.
//
// Two replicas may send the records of two partitions in different order. A tab then polls several times, and each poll
// brings new records. The feed's messages are numbered: after a missing number, a tab joins again.
//
// Two users never share a stream. The first checkpoint of each response names the viewer, and a tab learns it by its own
// credentials before it enters the group.
//
// A SharedWorker would be no better: token() lives in the pages, Chrome on Android has no SharedWorker, and a page cannot
// load one from another origin. simulation.js has the histories that this file survives.

// Tabs whose module speaks another protocol form other groups.
const protocol = 1;
// The messages that wait for a tab.
const maxQueue = 256;
// The milliseconds until an owner that does not answer loses the lock.
const patience = 2_000;

// share returns a source (see client.go) that is one among tabs. A test has a browser of its own.
export function share(name, tab, browser = globalThis) {
  if (!browser.navigator?.locks || !browser.BroadcastChannel) return tab.connect(tab.sink);
  return new Member(`${name}:${protocol}:`, tab, browser);
}

// decode returns the last offset considered of each partition in an id of version 1 (PROTOCOL.md, "Event ids"), or
// nothing for other ids, and where a beginning in time is still sought. The keys have the topic's incarnation.
function decode(id) {
  if (!id.startsWith("1~")) return undefined;
  const places = {};
  for (const [, source, partitions] of id.matchAll(/~(\w{12})([^~]*)/g)) {
    for (const [, p, offset = -1] of partitions.matchAll(/\.(\d+)(?:-(\d+))?/g)) places[`${source}.${p}`] = Number(offset);
  }
  return places;
}

// covers reports whether places has all partitions of others, as far or farther.
const covers = (places, others) => Object.keys(others).every((key) => places[key] >= others[key]);

// placeOf returns the place where a record or a gap ends, in the form of decode. A gap of a whole topic has no one place.
function placeOf({ id, type, data, fields }) {
  const places = decode(id) ?? {};
  const gap = type === "gap" ? JSON.parse(data) : {};
  const [, p = gap.partition, offset = gap.to - 1] = fields.pos?.match(/-(\d+)@(\d+)$/) ?? [];
  if (p !== undefined) for (const key in places) if (!key.endsWith(`.${p}`) || places[key] !== Number(offset)) delete places[key];
  return places;
}

export const isQuiet = ({ type }) => type === "checkpoint" || type === "heartbeat";

// move moves a place in a feed, {id, live, state}, over a message.
function move(place, { event, state }) {
  if (state) Object.assign(place, { state, live: state.state === "open" && place.live });
  else Object.assign(place, { id: event.id, live: place.live || (event.type === "checkpoint" && JSON.parse(event.data).live) });
}

// Member is the source of one tab. The constructor sets some fields. These are the others:
//
//  - viewer, group, channel, name: the viewer's name, the name of the viewer's group, its channel, and the tab's own name there.
//  - connection, current, streaming: the tab's own connection, its sink, and whether it is the stream of all or a poll.
//  - own: where that connection is, {id, live, state}. verified: its response has named the viewer.
//  - lock, feed: the request for the lock, and in the owner only, where the feed is, {id, live, state, n}.
//  - owner, next, queue: the owner's name, the number of its next message, and the messages that wait.
//  - place, need: where the feed is before the queue, and the id up to which the tab polls. joined: the page gets the queue.
//  - shown, fresh: by partition, the last offset that the page has had; and whether it may still begin where the feed is.
//  - busy: a promise, while the page is not ready for an event.
//  - refused, tried: the server refuses the tab's token, and the last owner whose stream made the tab try again.
//  - heardAt, askedAt: when the owner was heard last, and since when it has been asked for an answer.
class Member {
  heartbeat = 15_000;
  ended = new AbortController();

  constructor(prefix, tab, browser) {
    Object.assign(this, { prefix, tab, browser, fresh: !tab.begins });
  }

  async start() {
    const { document, navigator } = this.browser;
    const on = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: this.ended.signal }); // Node.js has locks and no window
    on(document, "visibilitychange", () => document.hidden || this.feed || this.#wake("wake"));
    on(document, "freeze", () => this.#pause());
    on(document, "resume", () => this.#resume());
    on(this.browser, "pagehide", () => this.#pause());
    on(this.browser, "pageshow", () => this.#resume());
    this.timer = this.browser.setInterval(() => this.#watch(), 1_000);
    const { held } = await navigator.locks.query().catch(() => ({ held: [] }));
    // Without an owner, the first connection may become the stream of all.
    if (!this.connection && !this.paused) this.#open(!held.some((lock) => lock.name.startsWith(this.prefix)));
  }

  close(change) {
    this.ended.abort();
    this.browser.clearInterval(this.timer);
    this.#pause();
    this.#report({ state: "closed", ...change });
  }

  // pause leaves the group, so that another tab owns the stream at once, and the browser may cache the page.
  #pause() {
    this.paused = true;
    this.#disconnect();
    this.#leave();
  }

  #resume() {
    if (!this.paused || this.ended.signal.aborted) return;
    this.paused = false;
    if (this.viewer) this.#enter(this.viewer);
    else this.#open(true);
  }

  reconnect() {
    if (this.joined && !this.feed) this.#wake("reconnect");
    else if (this.connection) this.connection.reconnect();
    else this.#open(!this.viewer);
  }

  // ---- The tab's own connection: the stream of the group, or a poll

  #open(streaming) {
    this.#disconnect();
    this.own = {};
    this.streaming = streaming;
    const sink = (this.current = {
      position: () => this.feed?.id ?? this.tab.sink.position(),
      event: (event) => (sink === this.current ? this.#receive(event, sink) : undefined),
      state: (change) => sink === this.current && this.#changeState(change),
    });
    this.connection = this.tab.connect(sink, streaming ? {} : { wait: "2s" });
    this.connection.start();
  }

  #disconnect() {
    const { connection } = this;
    this.current = this.connection = this.streaming = undefined;
    connection?.close();
  }

  #receive(event, sink) {
    if (event.type === "checkpoint") this.#verify(JSON.parse(event.data));
    // A gap may come before the first checkpoint.
    else if (!this.verified && this.feed && !isQuiet(event)) this.#startAgain();
    if (sink !== this.current) return undefined;
    // The page begins here.
    this.shown ??= decode(event.id);
    if (this.feed) return this.#publish(event);
    move(this.own, { event });
    const wait = this.#deliver(event);
    this.#follow();
    return wait;
  }

  // verify leads the tab to the group of its viewer, at the first event of a response. Without a viewer, the tab shares
  // nothing.
  #verify({ viewer, heartbeat = this.heartbeat }) {
    this.heartbeat = heartbeat;
    if (this.verified) return;
    this.verified = true;
    this.refused = false;
    if (viewer !== this.viewer) {
      this.shown = undefined;
      if (this.feed) this.#startAgain();
      else this.#enter(viewer);
    } else if (!this.channel) this.#enter(viewer);
    else if (!this.lock) {
      this.#join();
      this.#request();
    }
  }

  // startAgain leaves the feed, because the stream may be another viewer's. The page may not have had all of the feed yet.
  #startAgain() {
    this.#leave();
    this.#open(true);
  }

  #changeState(change) {
    const { state } = change;
    if (state === "connecting") this.verified = false;
    if (state === "closed") return this.close(change);
    if (state === "signed-out") {
      // Another tab's token may be better.
      this.refused = true;
      this.#release();
      this.#part();
    }
    move(this.own, { state: change });
    if (this.feed) this.#send({ state: change });
    else if (!this.joined) this.#report(change);
  }

  #report(change) {
    const shared = this.feed ? "owner" : this.channel ? "follower" : "alone";
    this.reported = change.state + shared;
    this.tab.sink.state({ ...change, shared });
  }

  // deliver gives the page an event. It returns a promise if the page has not taken the event.
  #deliver(event) {
    const wait = this.tab.sink.event(event);
    if (wait) {
      return (this.busy = wait.then(() => {
        this.busy = undefined;
        this.#follow();
      }));
    }
    if (!isQuiet(event)) {
      this.fresh = false;
      this.shown = { ...this.shown, ...placeOf(event) };
    }
  }

  // ---- The group: its lock and its channel

  #enter(viewer) {
    this.#leave();
    this.viewer = viewer;
    if (!viewer) return this.streaming || this.#open(true);
    this.group = this.prefix + viewer;
    this.name = Math.random();
    this.channel = new this.browser.BroadcastChannel(this.group);
    this.channel.onmessage = ({ data }) => this.#hear(data);
    this.#heard();
    this.#join();
    this.#request();
  }

  #leave() {
    this.#release();
    this.#part();
    this.channel?.close();
    this.channel = undefined;
  }

  #post(message) {
    this.channel?.postMessage(message);
  }

  async #request(options) {
    const { signal } = (this.lock = new AbortController());
    const hold = () => new Promise((release) => (signal.aborted ? release() : this.#lead(signal, release)));
    await this.browser.navigator.locks.request(this.group, options ?? { signal }, hold).catch(() => {});
    if (signal.aborted) return;
    if (!this.feed) return this.#enter();
    // Another tab has stolen the lock, because this tab did not answer.
    this.#release();
    this.#disconnect();
    this.#join();
    this.#request();
  }

  #release() {
    this.lock?.abort();
    this.lock = this.feed = undefined;
  }

  // lead makes the tab the owner of the stream, from its own position on.
  #lead(signal, release) {
    signal.addEventListener("abort", release);
    if (!this.streaming) this.#open(true);
    this.#part();
    this.joined = true;
    this.owner = Math.random();
    this.next = 0;
    this.feed = { ...this.own, id: this.tab.sink.position(), n: 0 };
    this.#welcome();
    this.#report(this.feed.state);
  }

  #hear(message) {
    const { hello, wake, to, owner, feed, event } = message;
    if (this.feed) {
      if (hello) this.#welcome(hello);
      if (wake) this.connection[wake]("replaced");
    } else if (this.refused) {
      // Another tab has a stream, so token() may return a good token now.
      if (event && owner !== this.tried) this.connection?.reconnect();
      if (event) this.tried = owner;
    } else if (feed && (!to || to === this.name)) this.#hearWelcome(message);
    else if (!feed && owner && owner === this.owner) this.#hearMessage(message);
  }

  // ---- The feed

  #welcome(to) {
    this.#post({ to, owner: this.owner, feed: this.feed });
  }

  // publish gives an event of the stream to all tabs, unless the page of this tab is too slow.
  #publish(event) {
    if (this.queue.length > maxQueue) return this.busy;
    this.#send({ event });
  }

  #send(message) {
    const numbered = { owner: this.owner, n: this.feed.n++, ...message };
    move(this.feed, message);
    this.#post(numbered);
    this.#hearMessage(numbered);
  }

  // join begins to follow whatever tab owns the stream.
  #join() {
    this.#part();
    this.#post({ hello: this.name });
  }

  #part() {
    this.joined = this.owner = this.place = undefined;
    this.queue = [];
  }

  // hearWelcome begins at the place of the feed that an owner reports.
  #hearWelcome({ owner, feed }) {
    this.#heard();
    if (owner === this.owner && feed.n === this.next) return;
    this.#part();
    Object.assign(this, { owner, next: feed.n, place: feed, need: feed.id });
    this.#follow();
  }

  // hearMessage takes the next message of the feed. After a missing one, the tab joins again.
  #hearMessage(message) {
    this.#heard();
    if (message.n !== this.next || (this.queue.length > maxQueue && !this.feed)) return this.#join();
    this.next++;
    this.queue.push(message);
    this.#follow();
  }

  // follow gives the page the messages that wait.
  #follow() {
    if (this.following) return;
    this.following = true;
    if (this.place && !this.busy && !this.joined) this.#meetFeed();
    while (this.joined && !this.busy && this.queue.length) {
      const { queue } = this;
      const [{ state, event }] = queue;
      if (state) this.#report(state);
      else if (this.#deliver(event)) break;
      queue.shift();
    }
    this.following = false;
  }

  // meetFeed looks for the place where the tab and the feed have considered the same records. A page that has nothing yet
  // may begin a little earlier, where the feed is.
  #meetFeed() {
    const { place, queue, tab } = this;
    const own = decode(tab.sink.position());
    const lacks = (others) => !own || !others || !covers(own, others);
    // The owner's id has no place yet while the server looks for the beginning of its stream: the next message may have one.
    if (lacks(decode(this.need))) return queue.some(({ event }) => event?.type === "gap" || !decode(this.need)) ? this.#join() : this.#poll();
    this.need = "1~"; // the id is reached: nothing is needed any more
    const shown = this.fresh && place.live ? {} : this.shown;
    // A topic may have been created again.
    for (const key in shown) if (!(key in own)) delete shown[key];
    for (; !covers(decode(place.id) ?? {}, shown); move(place, queue.shift())) {
      if (!queue.length) return this.#disconnect();
      const { event } = queue[0];
      if (event && !isQuiet(event) && lacks(placeOf(event))) return this.#poll();
    }
    this.joined = true;
    this.#disconnect();
    if (this.reported !== `${place.state.state}follower`) this.#report(place.state);
    tab.sink.event({ type: "checkpoint", data: JSON.stringify({ live: place.live }), id: place.id, fields: {} });
  }

  #poll() {
    if (!this.connection) this.#open();
  }

  // ---- An owner that does not answer

  #heard() {
    this.heardAt = this.browser.Date.now();
    this.askedAt = undefined;
  }

  // wake makes the owner connect now: by "wake", for a user who looks at the tab, or by "reconnect".
  #wake(how) {
    this.#post({ wake: how });
    this.#ask();
  }

  #ask() {
    this.askedAt ??= this.browser.Date.now();
    this.#post({ hello: this.name });
  }

  // watch asks a silent owner for an answer, and steals its lock without one: the owner is frozen, or hangs. It compares
  // times of day, because timers sleep with the computer. Tabs that are seen come first.
  #watch() {
    if (this.feed || !this.lock) return;
    const now = this.browser.Date.now();
    if (!this.askedAt) {
      if (now - this.heardAt > 2.5 * this.heartbeat) this.#ask();
    } else if (now - this.askedAt > patience * (1 + Math.random() + 2 * this.browser.document?.hidden)) {
      this.#heard();
      this.#release();
      this.#request({ steal: true });
    }
  }
}
