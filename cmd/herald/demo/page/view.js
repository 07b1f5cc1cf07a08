// Draws the page. Received text is inserted with textContent, never as markup.

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", fractionalSecondDigits: 3 });

const announceAfter = 800; // milliseconds
let announceTimer = 0;
let news = "";

export function byId(id) {
  return document.getElementById(id);
}

// setText changes the element only if the text differs.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// clone returns a copy of a template's only element.
function clone(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

function part(element, name) {
  return element.querySelector(`[data-part="${name}"]`);
}

// List makes the children of an element match a list. It adds, moves and removes
// as few children as possible, so that a selection or a focus remains.
class List {
  #children = new Map();

  constructor(element, { key, create, update }) {
    Object.assign(this, { element, key, create, update });
  }

  draw(items) {
    const gone = new Set(this.#children.keys());
    for (const item of items) gone.delete(this.key(item));
    for (const key of gone) {
      this.#children.get(key).remove();
      this.#children.delete(key);
    }
    let at = this.element.firstElementChild;
    for (const item of items) {
      let child = this.#children.get(this.key(item));
      if (!child) {
        child = this.create(item);
        this.#children.set(this.key(item), child);
      }
      this.update?.(child, item);
      if (child === at) at = at.nextElementSibling;
      else this.element.insertBefore(child, at);
    }
  }
}

export class View {
  #tasks = new List(byId("task-list"), {
    key: (task) => task.task,
    create: (task) => createTask(task),
    update: (element, task) => updateTask(element, task),
  });
  #log = new List(byId("log-list"), { key: (entry) => entry.n, create: (entry) => createEntry(entry) });

  // reset empties the lists before another user's state is drawn.
  reset() {
    this.#tasks.draw([]);
    this.#log.draw([]);
  }

  // draw shows a user's state.
  draw(state) {
    for (const [name, count] of Object.entries(state.counters)) {
      const element = byId(`count-${name}`);
      setText(element, count.toLocaleString("en"));
      element.classList.toggle("alarm", count > 0 && element.dataset.alarm !== undefined);
    }
    setText(byId("last-event-id"), state.lastEventId || "none yet");
    byId("copy-id").disabled = !state.lastEventId;
    byId("task-empty").hidden = state.tasks.length > 0;
    byId("log-empty").hidden = state.log.some((entry) => entry.type !== "checkpoint");
    byId("clear-tasks").disabled = !state.anyFinished;
    byId("clear-log").disabled = state.log.length === 0;
    this.#tasks.draw(state.tasks);
    this.#log.draw(state.log);
  }
}

function createTask(task) {
  const element = clone("task-template");
  element.dataset.task = task.task;
  setText(part(element, "name"), task.name);
  part(element, "bar").setAttribute("aria-label", `Progress of ${task.name}`);
  return element;
}

function updateTask(element, task) {
  element.dataset.seq = task.seq;
  element.dataset.state = task.quiet ? "quiet" : task.state;
  const percent = Math.round(task.percent);
  part(element, "bar").value = percent;
  setText(part(element, "state"), task.quiet ? "no news" : task.state);
  setText(part(element, "percent"), `${percent} %`);
  setText(part(element, "step"), task.quiet ? `No news for ${describeAge(Date.now() - task.heard)}: its worker may have stopped` : task.step);
  setText(part(element, "received"), `${task.received} ${task.received === 1 ? "record" : "records"}${task.first > 1 ? ", joined late" : ""}`);
}

// describeAge returns a time in milliseconds as seconds or minutes.
function describeAge(age) {
  return age < 60_000 ? `${Math.floor(age / 1000)} s` : `${Math.floor(age / 60_000)} min`;
}

function createEntry(entry) {
  const element = clone("entry-template");
  element.dataset.type = entry.type;
  setText(part(element, "type"), entry.type);
  const time = part(element, "time");
  time.dateTime = new Date(entry.time).toISOString();
  setText(time, clock.format(entry.time));
  const value = part(element, "value");
  setText(value, entry.value || "(empty value)");
  value.classList.toggle("muted", !entry.value);
  const cut = part(element, "cut");
  cut.hidden = entry.length <= entry.value.length;
  setText(cut, `The first ${entry.value.length.toLocaleString("en")} of ${entry.length.toLocaleString("en")} characters.`);
  setText(part(element, "id"), entry.id || "no id");
  return element;
}

// announce passes text to a screen reader: only the latest text, and not too often.
export function announce(text) {
  if (!text) return;
  news = text;
  announceTimer ||= setTimeout(() => {
    announceTimer = 0;
    setText(byId("announcer"), news);
  }, announceAfter);
}

// copy copies the text of the element that the button names to the clipboard.
export async function copy(button) {
  const source = byId(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 1500);
    announce("Copied");
  } catch { // the browser does not allow it: select the text, so that the person can copy it
    getSelection().selectAllChildren(source);
  }
}
