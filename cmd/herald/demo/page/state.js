// What the page shows for one person, and the id of the last event. Both are saved as one item of sessionStorage,
// so after a reload the id always fits the events on the page. Each tab has its own sessionStorage.

import { describeGap } from "./words.js";

const prefix = "herald-demo:";
const version = 3;
const maxItems = 500;
const maxTasks = 40;
const maxValue = 2000; // characters kept of a value
const quietAfter = 5000; // milliseconds; a worker reports every 250 ms
const states = new Set(["queued", "running", "complete", "cancelled"]);
const finished = new Set(["complete", "cancelled", "lost"]); // "lost" is this page's own

export class State {
  lastEventId = "";
  position = ""; // the place of the last record in Kafka
  tasks = []; // newest first
  items = []; // notifications and gaps, newest first
  offsets = {}; // the last offset that came, by topic and partition
  counters = { records: 0, gaps: 0, twice: 0, missing: 0 };
  next = 1; // number of the next item

  constructor(user) {
    this.user = user;
    try {
      const saved = JSON.parse(sessionStorage.getItem(prefix + user));
      if (saved?.version === version) Object.assign(this, saved.state);
    } catch { /* unreadable: start with nothing */ }
  }

  // save writes everything as one item. If it is too large, save leaves out older notifications. If that fails
  // too, the previous item remains, which is older but complete.
  save() {
    for (const keep of [maxItems, 100, 10]) {
      const { user, ...state } = this;
      try {
        sessionStorage.setItem(prefix + user, JSON.stringify({ version, state: { ...state, items: this.items.slice(0, keep) } }));
        return;
      } catch { /* full */ }
    }
  }

  // forget removes everything of the user from the tab.
  forget() { sessionStorage.removeItem(prefix + this.user); }

  // apply adds a record. It returns the text to announce and the record's names in the account of a cut, or
  // null if the record came before: within a partition, offsets only rise.
  apply(event) {
    this.counters.records++;
    const { partition, offset } = parsePosition(event.pos);
    if (partition && offset <= (this.offsets[partition] ?? -1)) {
      this.counters.twice++;
      return null;
    }
    if (partition) {
      this.offsets[partition] = offset;
      this.position = event.pos;
    }
    const report = event.type === "task-progress" ? parseReport(event.data) : null;
    if (report) return this.#report(report, event.pos);
    this.items = this.items.filter((item) => !item.pos || item.pos !== event.pos); // an earlier record, read before
    this.#add({ ...readItem(event), caught: event.replayed });
    return { text: `${this.user} got: ${(event.data ?? "a deletion").slice(0, 100)}`, names: [event.pos ?? event.id] };
  }

  // recall adds an earlier record, which was read on request beside the stream.
  recall(event) {
    if (event.type === "task-progress" && parseReport(event.data)) return false;
    if (this.items.length >= maxItems || this.items.some((item) => item.pos === event.pos)) return false;
    this.items.push({ n: this.next++, ...readItem(event), earlier: true });
    return true;
  }

  // sort brings recalled records to their place. Records of the stream stay in the order in which they came.
  sort() {
    const earlier = this.items.filter((item) => item.earlier).sort((a, b) => b.time - a.time);
    const items = [];
    for (const item of this.items.filter((item) => !item.earlier)) {
      while (earlier.length && earlier[0].time > item.time) items.push(earlier.shift());
      items.push(item);
    }
    this.items = [...items, ...earlier];
  }

  clear() { this.items = []; }

  get anyFinished() { return this.tasks.some(isOver); }

  clearFinished() { this.tasks = this.tasks.filter((task) => !isOver(task)); }

  // markQuiet marks the running tasks that have sent no news for some time, although everything has worked since
  // the time given. A connection that was just opened may still bring the missed news. The next news of a task
  // removes the mark. It returns the text to announce, or "".
  markQuiet(workingSince) {
    let text = "";
    for (const task of this.tasks) {
      if (isOver(task) || Date.now() - Math.max(task.heard, workingSince) < quietAfter) continue;
      task.quiet = true;
      text = `Task ${task.name}: no news`;
    }
    return text;
  }

  // gap records a loss, and returns the text to announce. Offsets may begin at 0 again after it. Tasks whose topic was
  // made again get no more progress.
  gap(gap) {
    this.counters.gaps++;
    const text = describeGap(gap);
    this.#add({ type: "gap", gap: true, value: text, length: text.length, time: Date.now() });
    if (gap.reason !== "recreated" && gap.reason !== "unknown-id") return text;
    for (const partition of Object.keys(this.offsets)) {
      if (!gap.source || partition.slice(0, partition.lastIndexOf("-")) === gap.source) delete this.offsets[partition];
    }
    if (gap.reason !== "recreated") return text;
    this.tasks = this.tasks.map((task) => finished.has(task.state) || task.topic !== gap.source ? task
      : { ...task, state: "lost", step: "Its records are gone: the topic was made again" });
    return text;
  }

  // report records a task's progress. The reports of a task are numbered, so the page notices a repeated or lost
  // report without positions. The names are the numbers of all reports since the last one.
  #report(report, pos) {
    const at = this.tasks.findIndex((task) => task.task === report.task);
    const before = this.tasks[at];
    if (before && report.seq <= before.seq) {
      this.counters.twice++;
      return null;
    }
    const topic = parsePosition(pos).partition?.replace(/-\d+$/, "");
    const task = { ...report, topic, received: (before?.received ?? 0) + 1, first: before?.first ?? report.seq, heard: Date.now() };
    if (before) {
      this.counters.missing += report.seq - before.seq - 1;
      this.tasks[at] = task;
    } else {
      this.tasks.unshift(task);
      this.#dropTasks();
    }
    const names = [];
    for (let seq = (before?.seq ?? report.seq - 1) + 1; seq <= report.seq && names.length < 1000; seq++) names.push(`${report.task} ${seq}`);
    const news = before?.state !== report.state || before.quiet;
    return { text: news ? `Task ${report.name}: ${report.state}` : "", names, numbered: true };
  }

  // dropTasks removes the oldest task that is over, or the oldest task if none is over.
  #dropTasks() {
    if (this.tasks.length <= maxTasks) return;
    const at = this.tasks.findLastIndex(isOver);
    this.tasks.splice(at < 0 ? maxTasks : at, 1);
  }

  #add(item) {
    this.items.unshift({ n: this.next++, ...item });
    this.items.length = Math.min(this.items.length, maxItems);
  }
}

// isOver reports whether a task sends no more news, as far as the page knows.
function isOver(task) { return finished.has(task.state) || task.quiet; }

function readItem({ type, data, pos, time, key }) {
  const value = data ?? `The record with the key ${key ?? "(none)"} is deleted.`;
  return { type, pos, value: value.slice(0, maxValue), length: value.length, deleted: data === null, time: Number(time ?? Date.now()) };
}

// parsePosition splits a place in Kafka, such as notifications-2@41.
function parsePosition(pos) {
  const [, partition, offset] = /^(.*)@(\d+)$/s.exec(pos ?? "") ?? [];
  return { partition, offset: Number(offset) };
}

// parseReport returns a task's progress, or null if the value is something else: anybody may produce records of
// this type.
function parseReport(data) {
  let report = null;
  try {
    report = JSON.parse(data);
  } catch { /* not a report */ }
  const { task, name, step, percent, state, seq } = report ?? {};
  const texts = [task, name, step].every((text) => typeof text === "string" && text.length <= maxValue);
  if (!texts || !states.has(state) || !Number.isSafeInteger(seq) || !(percent >= 0 && percent <= 100)) return null;
  return { task, name, step, percent: Number(percent), state, seq };
}
