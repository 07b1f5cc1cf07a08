// What the page has received for one user: what it shows, and the id of the
// last event it shows. Both are saved as one item of sessionStorage, so a
// reload can never find an id that is ahead of or behind the display. Each tab
// has its own sessionStorage, so tabs are independent.

const prefix = "herald-demo:";
const version = 1;
const maxLog = 200; // entries
const maxTasks = 30;
const maxIds = 400; // for finding repeated ids
const maxValue = 2000; // characters kept of a value
const finished = new Set(["complete", "cancelled"]);
const states = new Set(["queued", "running", ...finished]);

export class State {
  lastEventId = "";
  tasks = []; // newest first
  log = []; // newest first
  ids = []; // of the latest records, newest last
  counters = { events: 0, checkpoints: 0, gaps: 0, duplicates: 0, missing: 0 };
  types = []; // event types the person asked for
  next = 1; // number of the next log entry

  constructor(user) {
    this.user = user;
    try {
      const saved = JSON.parse(sessionStorage.getItem(prefix + user));
      if (saved?.version === version) Object.assign(this, saved.state);
    } catch { /* unreadable: begin anew */ }
  }

  // save writes everything in one item. If it does not fit, older log entries
  // go; if even that fails, the previous item stays, which is older but whole.
  save() {
    for (const keep of [maxLog, 50, 10]) {
      const { user, ...state } = this;
      try {
        sessionStorage.setItem(prefix + user, JSON.stringify({ version, state: { ...state, log: this.log.slice(0, keep) } }));
        return true;
      } catch { /* full */ }
    }
    return false;
  }

  // apply takes one event in and returns what is worth announcing, or "".
  apply({ type, id, data }) {
    if (id) this.lastEventId = id;
    switch (type) {
      case "checkpoint":
        this.counters.checkpoints++;
        // Only the latest of several in a row is of interest.
        if (this.log[0]?.type === type) this.log.shift();
        this.#add(type, id, "The stream's position: from here it goes on.");
        return "";
      case "gap":
        this.counters.gaps++;
        this.#add(type, id, describeGap(data));
        return "Gap: some records could not be delivered";
      case "end":
        this.#add(type, id, describeEnd(data));
        return "";
    }
    this.counters.events++;
    if (id && this.ids.includes(id)) {
      this.counters.duplicates++;
      return "";
    }
    if (id) this.ids.push(id);
    if (this.ids.length > maxIds) this.ids.splice(0, this.ids.length - maxIds);
    const report = type === "task-progress" ? parseReport(data) : null;
    if (report) return this.#report(report);
    this.#add(type, id, data);
    return `Event received: ${type}`;
  }

  clearLog() { this.log = []; }

  clearFinished() { this.tasks = this.tasks.filter((task) => !finished.has(task.state)); }

  // report takes in a task's progress. The reports of a task are numbered, so
  // a repeated or lost one is noticed whatever its event id.
  #report(report) {
    const at = this.tasks.findIndex((task) => task.task === report.task);
    const before = this.tasks[at];
    if (before && report.seq <= before.seq) {
      this.counters.duplicates++;
      return "";
    }
    if (before) {
      this.counters.missing += report.seq - before.seq - 1;
      this.tasks[at] = { ...report, received: before.received + 1 };
    } else {
      this.tasks.unshift({ ...report, received: 1 });
      this.#dropTasks();
    }
    if (before?.state === report.state) return "";
    return `Task ${report.name}: ${report.state}`;
  }

  // dropTasks forgets the oldest task, a finished one if there is one.
  #dropTasks() {
    if (this.tasks.length <= maxTasks) return;
    const at = this.tasks.findLastIndex((task) => finished.has(task.state));
    this.tasks.splice(at < 0 ? maxTasks : at, 1);
  }

  #add(type, id, value) {
    const length = value.length;
    this.log.unshift({ n: this.next++, type, id, value: value.slice(0, maxValue), length, time: Date.now() });
    this.log.length = Math.min(this.log.length, maxLog);
  }
}

// parseReport returns a task's progress, or null if the value is anything else:
// everyone may produce records of this type.
function parseReport(data) {
  const report = parseObject(data);
  const { task, name, step, percent, state, seq } = report ?? {};
  const texts = [task, name, step].every((text) => typeof text === "string" && text.length <= maxValue);
  if (!texts || !states.has(state) || !Number.isSafeInteger(seq) || !(percent >= 0 && percent <= 100)) return null;
  return { task, name, step, percent: Number(percent), state, seq };
}

function describeGap(data) {
  const gap = parseObject(data);
  if (!gap) return data;
  const reasons = {
    "retention": "Kafka no longer keeps them",
    "recreated": "the topic was deleted and made again",
    "unknown-id": "the last event id was not known",
    "replay-limit": "there were too many to replay",
  };
  const why = reasons[gap.reason] ?? gap.reason ?? "no reason given";
  if (!gap.source) return `Records may have been missed: ${why}.`;
  return `Records of ${gap.source} from ${gap.from} to ${gap.to} were not delivered: ${why}.`;
}

function describeEnd(data) {
  const end = parseObject(data);
  return end?.reason ? `The server ended the stream: ${end.reason}.` : `The server ended the stream. ${data}`;
}

// parseObject returns the JSON object in text, or null.
function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
