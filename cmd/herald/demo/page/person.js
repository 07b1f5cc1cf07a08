// One person on the page: the stream, its records, and the account of the last cut.

import { connect } from "../herald.js";
import { Cut } from "./cut.js";
import { State } from "./state.js";
import { countTabs, enter, leave } from "./tabs.js";

const saveAfter = 200; // milliseconds
const lostStates = new Set(["stale", "waiting", "offline"]);

export class Person {
  change = { state: "connecting", shared: "alone" }; // the stream's last state
  live = false; // the stream has caught up
  cut = null; // the account of the last time without a connection
  condition = "ready"; // the server's: ready, kafka-down or not-ready
  tabs = 0; // that show the person
  #stream = null;
  #workingSince = 0; // when the stream and Kafka began to work; 0: they do not
  #saveTimer = 0;
  #forgotten = false;

  // address is the stream's URL, options are more options of connect. onChange is called after each change, with
  // the text to announce or "".
  constructor({ user, address, options, onChange }) {
    Object.assign(this, { user, address, options, onChange });
    this.state = new State(user);
  }

  get connected() { return this.#stream !== null; }

  open() {
    if (this.#stream) return;
    if (!this.cut?.open && this.state.lastEventId) this.cut = new Cut("away");
    this.cut?.reconnect();
    this.live = false;
    this.change = { state: "connecting", shared: "alone" };
    // The text of a record is shown as it is, so it is not parsed.
    const stream = connect(this.address, { ...this.options, parse: (text) => text, lastEventId: this.state.lastEventId });
    this.#stream = stream;
    const listen = (type, listener) => stream.on(type, (event) => { if (this.#stream === stream) this.#changed(listener(event)); });
    listen("*", (event) => this.#receive(event));
    listen("gap", (gap) => this.state.gap(gap));
    listen("live", () => this.#meetLive());
    listen("state", (change) => this.#changeState(change));
    enter(this.user);
    this.#changed("");
  }

  // close ends the stream as a broken network would. No event arrives after it has returned.
  close() {
    this.saveNow();
    const stream = this.#stream;
    this.#stream = null;
    stream?.close();
    leave(this.user);
    this.#changed("");
  }

  cutConnection() {
    this.cut = new Cut("cut");
    this.close();
  }

  // reconnect opens the stream after a cut, or makes a stream that waits try again.
  reconnect() {
    if (this.#stream) this.#stream.reconnect();
    else this.open();
  }

  // wrote takes note of a record that the page has written. duringCut is the cut that there was when the page
  // began to write it.
  wrote(record, duringCut, ofTask = false) {
    if (duringCut && duringCut === this.cut) this.cut.expect(record, ofTask);
    this.#changed("");
  }

  // saveNow saves the events on the page together with the last id. If the tab ends before it is called, the
  // older item is still consistent: the server sends the events after the older id again.
  saveNow() {
    clearTimeout(this.#saveTimer);
    this.#saveTimer = 0;
    if (this.#stream) this.state.lastEventId = this.#stream.lastEventId;
    if (!this.#forgotten) this.state.save();
  }

  // hide and show are for a page that the browser keeps in its memory: it keeps none that holds a lock.
  hide() {
    this.saveNow();
    leave(this.user);
  }

  show() { if (this.#stream) enter(this.user); }

  // forget removes what the tab keeps of the person.
  forget() {
    this.#forgotten = true;
    this.close();
    this.state.forget();
  }

  // recall reads the records since a time by a stream of its own, which ends when it has caught up. It returns
  // the number of records that the page did not show.
  recall(since) {
    const { fetch, session } = this.options;
    const stream = connect(this.address, { fetch, session, since, parse: (text) => text });
    return new Promise((resolve, reject) => {
      let found = 0;
      const events = [];
      stream.on("*", (event) => events.push(event));
      stream.on("live", () => {
        for (const event of events.reverse()) found += this.state.recall(event);
        this.state.sort();
        this.#changed("");
        resolve(found);
        stream.close();
      });
      stream.on("state", ({ state, message }) => {
        if (state === "open" || state === "connecting") return;
        reject(new Error(message ?? "The server did not answer."));
        stream.close();
      });
    });
  }

  // check takes the server's condition and the number of tabs, once in a while.
  async check(condition) {
    if (condition) this.condition = condition;
    this.tabs = await countTabs(this.user);
    this.#changed("");
  }

  // checkTasks returns a text to announce if a task sends no news.
  checkTasks() { return this.#workingSince ? this.state.markQuiet(this.#workingSince) : ""; }

  #receive(event) {
    const got = this.state.apply(event);
    if (!got) {
      this.cut?.repeat();
      return "";
    }
    if (this.cut && !this.live && got.numbered) for (const name of got.names) this.cut.expect(name, true);
    this.cut?.deliver(got.names.at(-1));
    return got.text;
  }

  #meetLive() {
    this.live = true;
    this.cut?.live();
    return `${this.user} is live.`;
  }

  #changeState(change) {
    if (this.live && lostStates.has(change.state)) {
      this.live = false;
      this.cut = new Cut("lost");
    }
    if (change.state === "open" && this.cut?.open) this.cut.reconnect();
    const news = change.state !== this.change.state && change.state !== "open" && change.state !== "connecting";
    this.change = change;
    return news ? `${this.user}: the stream is ${change.state}.` : "";
  }

  #changed(text) {
    const working = this.#stream && this.change.state === "open" && this.live && this.condition === "ready";
    this.#workingSince = working ? this.#workingSince || Date.now() : 0;
    this.#saveTimer ||= setTimeout(() => this.saveNow(), saveAfter);
    this.onChange(text);
  }
}
