// The events that the page shows for one user, and the id of the last one. Both
// are saved as one item of sessionStorage, so after a reload the id always fits
// the events on the page. Each tab has its own sessionStorage, so tabs are
// independent.

const prefix = "herald-demo:";
const version = 2;
const maxLog = 200; // entries
const maxTasks = 30;
const maxIds = 400; // for finding repeated ids
const maxValue = 2000; // characters kept of a value
const quietAfter = 5000; // milliseconds; a worker reports every 250 ms
const taskTopic = "notifications"; // where the server writes the progress of tasks
const states = new Set(["queued", "running", "complete", "cancelled"]);
const finished = new Set(["complete", "cancelled", "lost"]); // "lost" is this page's own

export class State {
  lastEventId = "";
  tasks = []; // newest first
  log = []; // newest first
  ids = []; // of the latest records, newest last
  counters = { events: 0, checkpoints: 0, gaps: 0, duplicates: 0, missing: 0 };
  next = 1; // number of the next log entry

  constructor(user) {
    this.user = user;
    try {
      const saved = JSON.parse(sessionStorage.getItem(prefix + user));
      if (saved?.version === version) Object.assign(this, saved.state);
    } catch { /* unreadable: start with nothing */ }
  }

  // save writes everything as one item. If it is too large, save leaves out older
  // log entries. If that fails too, the previous item remains, which is older but
  // complete.
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

  // forget removes everything of the user from the tab.
  forget() { sessionStorage.removeItem(prefix + this.user); }

  // apply adds one event and returns the text to announce, or "".
  apply({ type, id, data }) {
    if (id) this.lastEventId = id;
    switch (type) {
      case "checkpoint":
        this.counters.checkpoints++;
        // Of several checkpoints in a row the log keeps only the last.
        if (this.log[0]?.type === type) this.log.shift();
        this.#add(type, id, "The stream's position: the stream can resume from here.");
        return "";
      case "gap":
        return this.#gap(id, data);
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

  // gap records a loss. Tasks whose topic was made again get no more progress.
  #gap(id, data) {
    this.counters.gaps++;
    const gap = parseObject(data);
    this.#add("gap", id, gap ? describeGap(gap) : data);
    if (gap?.reason !== "recreated") return "Gap: some records could not be delivered";
    if (gap.source === taskTopic) {
      this.tasks = this.tasks.map((task) => finished.has(task.state) ? task
        : { ...task, state: "lost", step: "Its records are gone: the topic was made again" });
    }
    return "Gap: a topic was made again";
  }

  // report records a task's progress. The reports of a task are numbered, so the
  // page notices a repeated or lost report without the event ids.
  #report(report) {
    const at = this.tasks.findIndex((task) => task.task === report.task);
    const before = this.tasks[at];
    if (before && report.seq <= before.seq) {
      this.counters.duplicates++;
      return "";
    }
    const task = { ...report, received: (before?.received ?? 0) + 1, first: before?.first ?? report.seq, heard: Date.now() };
    if (before) {
      this.counters.missing += report.seq - before.seq - 1;
      this.tasks[at] = task;
    } else {
      this.tasks.unshift(task);
      this.#dropTasks();
    }
    if (before?.state === report.state && !before.quiet) return "";
    return `Task ${report.name}: ${report.state}`;
  }

  // dropTasks removes the oldest task that is over, or the oldest task if none is
  // over.
  #dropTasks() {
    if (this.tasks.length <= maxTasks) return;
    const at = this.tasks.findLastIndex(isOver);
    this.tasks.splice(at < 0 ? maxTasks : at, 1);
  }

  #add(type, id, value) {
    const length = value.length;
    this.log.unshift({ n: this.next++, type, id, value: value.slice(0, maxValue), length, time: Date.now() });
    this.log.length = Math.min(this.log.length, maxLog);
  }
}

// isOver reports whether a task sends no more news, as far as the page knows.
function isOver(task) { return finished.has(task.state) || task.quiet; }

// parseReport returns a task's progress, or null if the value is something else:
// anybody may produce records of this type.
function parseReport(data) {
  const report = parseObject(data);
  const { task, name, step, percent, state, seq } = report ?? {};
  const texts = [task, name, step].every((text) => typeof text === "string" && text.length <= maxValue);
  if (!texts || !states.has(state) || !Number.isSafeInteger(seq) || !(percent >= 0 && percent <= 100)) return null;
  return { task, name, step, percent: Number(percent), state, seq };
}

// describeGap explains a gap event: the stream was at offset "from" and continues at offset "to".
function describeGap({ source, partition, from, to, reason }) {
  if (!source) return "The last event ID is not from this server: the stream begins with the next records.";
  if (partition === undefined && reason === "unknown-id") return `${source}: the last event ID does not contain this topic; it begins with the next records.`;
  const where = partition === undefined ? source : `${source}/${partition}`;
  const records = to - from > 1 ? `the records ${from} to ${to - 1}` : `record ${from}`;
  switch (reason) {
    case "retention":
      return `${where}: Kafka no longer keeps ${records}.`;
    case "recreated":
      return `${where}: the topic was made again; what it held is gone.`;
    case "unknown-id":
      return `${where}: record ${from - 1}, after which the stream had to continue, does not exist; it continues with record ${to}.`;
    case "unreadable":
      return `${where}: ${records} cannot be read.`;
    default:
      return `${where}: ${records} cannot be delivered: ${reason}.`;
  }
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
