// A page of the simulation: it shows the events of its stream, and checks each of them against the logs.
import { share as realShare } from "./herald-share.js";
import { Connection } from "./simulation-server.js";

// Story is what a page has shown, over its reloads.
export class Story {
  fresh = true; // it began without an id or a time, and has had nothing yet
  id = ""; // what the page has stored
  user = undefined; // whose records the tab may show
  gaps = new Set(); // of retention
  place = undefined; // topic → {incarnation, offsets}: all records up to here are accounted for

  constructor(world, name) {
    Object.assign(this, { world, name });
  }

  fail(what) {
    this.world.failure ??= new Error(`${this.name}: ${what}`);
    throw this.world.failure;
  }

  // records lists the user's records of a partition after one offset and up to another.
  records(topic, i, after, to) {
    const { records } = this.world.logs[`${topic}-${i}`];
    const found = [];
    for (let o = after + 1; o <= to && o < records.length; o++) if (records[o] === this.user || records[o] === "all") found.push(o);
    return found;
  }

  current(topic) {
    return this.place[topic]?.incarnation === this.world.topics[topic].incarnation;
  }

  // take accounts for an event. The id must say exactly what the page has had.
  take(event) {
    const { world } = this;
    const id = world.decode(event.id);
    if (this.fresh) this.goBack(event, id);
    if (event.type === "message" || event.type === "gap") this.fresh = false;
    if (!this.place) {
      this.place = world.decode(event.id);
      for (const topic in this.place) this.place[topic].offsets.fill(-1);
    }
    if (event.type === "gap") this.takeGap(JSON.parse(event.data), id);
    else if (event.type === "message") this.takeRecord(event);
    for (const topic in id) this.compare(topic, id[topic], event);
    this.id = event.id;
  }

  // goBack lets a page that has nothing yet begin earlier.
  goBack(event, id) {
    this.place ??= this.world.decode(event.id);
    for (const topic in id) {
      const { incarnation, offsets } = this.place[topic];
      if (incarnation !== id[topic].incarnation) continue;
      if (event.type === "checkpoint" || event.type === "heartbeat") id[topic].offsets.forEach((offset, i) => (offsets[i] = Math.min(offset, offsets[i])));
    }
  }

  takeRecord({ data, fields }) {
    const [, topic, i, offset] = fields.pos.match(/(.*)-(\d+)@(\d+)/);
    if (data !== this.user && data !== "all") this.fail(`LEAK: ${this.user} sees a record of ${data}`);
    const { offsets } = this.place[topic];
    if (Number(offset) <= offsets[i]) this.fail(`REPEAT: ${fields.pos}, after ${offsets[i]}`);
    if (this.current(topic)) {
      const lost = this.records(topic, i, offsets[i], Number(offset) - 1);
      if (lost.length > 0) this.fail(`LOSS: ${topic}-${i}@${lost} before ${fields.pos}`);
    }
    offsets[i] = Number(offset);
  }

  takeGap({ source, partition, from, to, reason }, id) {
    const { offsets, incarnation } = this.place[source];
    if (reason === "recreated") {
      if (incarnation === id[source].incarnation) this.fail(`REPEAT: the gap of ${source}`);
      this.place[source] = { incarnation: id[source].incarnation, offsets: offsets.map(() => -1) };
      return;
    }
    const gap = `${source}-${partition} to ${to} of ${this.user} ${incarnation}`;
    if (this.gaps.has(gap)) this.fail(`REPEAT: the gap of ${gap}`);
    this.gaps.add(gap);
    if (this.current(source) && this.records(source, partition, offsets[partition], from - 1).length > 0) this.fail(`LOSS: before the gap of ${source}-${partition} from ${from}`);
    offsets[partition] = Math.max(offsets[partition], to - 1);
  }

  // compare checks that a reload from the id would neither lose nor repeat a record.
  compare(topic, { incarnation, offsets }, event) {
    const place = this.place[topic];
    if (incarnation !== place.incarnation) this.fail(`the id has incarnation ${incarnation} of ${topic}, the page ${place.incarnation}`);
    offsets.forEach((offset, i) => {
      const had = place.offsets[i];
      if (this.current(topic)) {
        const between = this.records(topic, i, Math.min(had, offset), Math.max(had, offset));
        if (between.length > 0) this.fail(`${offset > had ? "LOSS" : "REPEAT"} by a reload after ${event.type} ${event.fields?.pos ?? ""}: the id has ${topic}-${i}@${offset}, the page @${had}`);
      }
      place.offsets[i] = Math.max(had, offset);
    });
  }

  // missing lists the records that the page has not had.
  missing() {
    if (!this.place) return ["everything"]; // not even a checkpoint
    return Object.values(this.world.topics).flatMap(({ name, partitions, incarnation }) => {
      const place = this.place[name];
      if (place.incarnation !== incarnation) return [`${name}: the gap`];
      return Array.from({ length: partitions }, (_, i) => this.records(name, i, place.offsets[i], Infinity).map((o) => `${name}-${i}@${o}`)).flat();
    });
  }
}

// Tab is an open page.
export class Tab {
  streams = 0;
  state = "";
  held = [];

  constructor(world, story, { since, slow, share = realShare }) {
    Object.assign(this, { world, story, since, slow });
    this.browser = world.browserOf(this);
    const begins = since || story.id !== "";
    story.fresh = !begins;
    story.since = since;
    if (!story.id) story.place = undefined;
    const sink = { position: () => this.story.id, event: (event) => this.take(event), state: (change) => Object.assign(this, change) };
    this.source = share("events", { sink, begins, connect: (sink, query) => new Connection(world, this, sink, query) }, this.browser);
    this.source.start();
  }

  // seen notes the viewer of each response that the tab gets by its own credentials.
  seen(user) {
    if (user === undefined || user === this.story.user) return;
    this.story.user = user;
    if (this.story.id) this.story.place = this.world.decode(this.story.id); // the other user's story begins here
  }

  // take refuses some records at first if the page is slow.
  take(event) {
    if (this.closed) return undefined;
    if (event.type !== "message" || !this.slow || this.ready || this.world.below(3) > 0) {
      this.ready = false;
      return void this.story.take(event);
    }
    return new Promise((resolve) => {
      this.world.later(this.world.random() * 200, () => {
        this.ready = true;
        resolve();
      }, this);
    });
  }

  close() {
    this.source.close();
    this.closed = this.dead = true;
  }
}
