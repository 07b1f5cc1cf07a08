// Draws a person. Received text is inserted with textContent, never as markup.

import { count, describeAge, describeCut, describeShare, describeStream } from "./words.js";

const announceAfter = 800; // milliseconds
let announceTimer = 0;
let news = "";

export function byId(id) { return document.getElementById(id); }

// setText changes the element only if the text differs.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// clone returns a copy of a template's only element.
function clone(id) { return byId(id).content.firstElementChild.cloneNode(true); }

export function part(element, name) { return element.querySelector(`[data-part="${name}"]`); }

// List makes the children of an element match a list. It adds, moves and removes as few children as possible, so
// that a selection or a focus remains.
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
      this.update(child, item);
      if (child === at) at = at.nextElementSibling;
      else this.element.insertBefore(child, at);
    }
  }
}

const still = matchMedia("(prefers-reduced-motion: reduce)");

export class PersonView {
  element = clone("person-template");
  #tasks = new List(this.part("tasks"), { key: (task) => task.task, create: createTask, update: updateTask });
  #records = 0; // drawn
  #items = new List(this.part("items"), { key: (item) => item.n, create: createItem, update: updateAge });

  constructor(user, curl) {
    this.element.dataset.user = this.element.ariaLabel = user;
    for (const initial of this.element.querySelectorAll('[data-part="initial"]')) setText(initial, [...user][0].toUpperCase());
    setText(this.part("name"), user);
    setText(this.part("signed-in"), user);
    setText(this.part("curl"), curl);
    this.part("user").value = user;
  }

  part(name) { return part(this.element, name); }

  draw(person) {
    const { state, cut, change, tabs } = person;
    const [key, title, hint] = describeStream(person);
    this.element.dataset.state = key;
    setText(this.part("badge"), title);
    setText(this.part("shared"), hint || (person.connected && key === "open" ? describeShare(change.shared, tabs) : ""));
    this.#drawCut(key, cut);
    for (const element of this.element.querySelectorAll("[data-count]")) {
      const number = state.counters[element.dataset.count];
      setText(element, number.toLocaleString("en"));
      element.classList.toggle("alarm", number > 0 && element.dataset.alarm !== undefined);
    }
    setText(this.part("position"), state.position || "the start");
    setText(this.part("last-event-id"), state.lastEventId || "none yet");
    this.part("copy-id").disabled = !state.lastEventId;
    this.part("items-empty").hidden = state.items.length > 0;
    this.part("tasks-empty").hidden = state.tasks.length > 0 || this.element.classList.contains("reads");
    this.part("clear").disabled = state.items.length === 0;
    this.part("clear-tasks").hidden = !state.anyFinished;
    if (state.counters.records > this.#records && key === "open") this.#showPassage();
    this.#records = state.counters.records;
    this.#tasks.draw(state.tasks);
    this.#items.draw(state.items);
  }

  // showPassage shows that records have come through the wire. Nothing moves while nothing comes.
  #showPassage() {
    if (still.matches) return;
    for (const line of this.element.querySelectorAll(".line")) {
      line.animate({ translate: ["-100%", "250%"] }, { duration: 600, easing: "ease-in-out", pseudoElement: "::after" });
    }
  }

  #drawCut(key, cut) {
    const isCut = key === "cut";
    const again = isCut || key === "waiting" || key === "replaced" || key === "closed";
    const button = this.part("cut");
    setText(button, again ? "Reconnect" : "Cut the connection");
    button.dataset.does = again ? "reconnect" : "cut";
    this.part("counter").hidden = !isCut;
    if (isCut) setText(this.part("counter"), `Cut for ${describeAge(Date.now() - cut.began).replace("now", "0 s")}`);
    const waiting = this.part("waiting");
    waiting.hidden = !isCut || cut.missed === 0;
    if (!waiting.hidden) setText(waiting, String(cut.missed));
    this.part("burst").hidden = !isCut || this.element.classList.contains("reads");
    const outcome = this.part("outcome");
    setText(outcome, (cut && describeCut(cut)) || "Cut it, send something, reconnect: nothing is missed.");
    const done = cut && cut.took !== null && (cut.missed > 0 || cut.others > 0);
    outcome.dataset.kind = !done ? "" : cut.caught === cut.missed && !cut.twice ? "good" : "bad";
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
  setText(part(element, "state"), task.quiet ? "No news" : task.state[0].toUpperCase() + task.state.slice(1));
  setText(part(element, "percent"), `${percent} %`);
  setText(part(element, "step"), task.quiet ? `Nothing for ${describeAge(Date.now() - task.heard)}: its worker may have stopped` : task.step);
  setText(part(element, "received"), `${count(task.received, "record")}${task.first > 1 ? ", joined late" : ""}`);
}

function createItem(item) {
  const element = clone("item-template");
  element.dataset.type = item.type;
  if (item.gap) element.dataset.gap = "";
  setText(part(element, "value"), item.value || "(Empty)");
  part(element, "value").classList.toggle("hint", !item.value || Boolean(item.deleted));
  setText(part(element, "type"), item.gap ? "Gap" : item.type);
  part(element, "type").hidden = item.type === "message";
  setText(part(element, "pos"), item.pos ?? "");
  const caught = part(element, "caught");
  caught.hidden = !item.caught && !item.earlier;
  setText(caught, item.earlier ? "Earlier" : "Caught up");
  const length = part(element, "length");
  length.hidden = item.length <= item.value.length;
  setText(length, `First ${item.value.length.toLocaleString("en")} of ${item.length.toLocaleString("en")} characters`);
  const age = part(element, "age");
  const time = new Date(item.time);
  age.dateTime = time.toISOString();
  age.title = time.toLocaleString();
  return element;
}

function updateAge(element, item) {
  setText(part(element, "age"), describeAge(Date.now() - item.time));
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

// copy copies the text of an element to the clipboard.
export async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 1500);
    announce("Copied");
  } catch { // the browser does not allow it: select the text, so that the person can copy it
    getSelection().selectAllChildren(source);
  }
}
