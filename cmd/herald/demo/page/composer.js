// Writes notifications and tasks, and reports each written record to the people on the page.

import { ask, post } from "./forms.js";
import { byId } from "./view.js";

export const burst = 28; // notifications that one click writes
const maxUser = 256; // bytes of UTF-8, as the server has it
export const userRule = "A user has 1 to 256 bytes of text without control characters.";

const samples = [["", "Your report is ready"], ["delivery", "Your order 1042 has shipped"], ["", "Maria mentioned you in “Roadmap”"], ["invoice", "Invoice 2026-118 is due on Friday"],
  ["news", "Maintenance tonight from 22:00 to 22:15"], ["", "Your password was changed"], ["delivery", "The courier is two stops away"]];
let next = 0;

// isUser reports whether a user of the server can have the name.
export function isUser(name) {
  return name !== "" && !/[\p{Cc}\p{Cs}]/u.test(name) && new TextEncoder().encode(name).length <= maxUser;
}

// suggest fills the composer with the next sample.
export function suggest() {
  const [type, text] = samples[next++ % samples.length];
  byId("send-value").value = text;
  byId("send-type").value = type;
}

// write writes a notification for a user, or for everyone if user is null. It returns the record's place in Kafka.
async function write(people, user, type, value) {
  const address = new URL(user === null ? "broadcast" : `users/${encodeURIComponent(user)}/notifications`, document.baseURI);
  if (type) address.searchParams.set("type", type);
  const told = people.filter((person) => user === null || person.user === user).map((person) => [person, person.cut?.open && person.cut]);
  const at = await post(address, "text/plain", value);
  const pos = `${at.topic}-${at.partition}@${at.offset}`;
  for (const [person, cut] of told) person.wrote(pos, cut);
  return pos;
}

// send writes the notification in the composer, and returns what the person reads then.
export async function send(people) {
  const to = new FormData(byId("send-form")).get("to");
  const user = to === "all" ? null : to === "other" ? byId("send-user").value.trim() : to.slice("user:".length);
  if (user !== null && !isUser(user)) throw new Error(userRule);
  const value = byId("send-value").value;
  if (!value.trim()) throw new Error("Write a text first.");
  const pos = await write(people, user, byId("send-type").value.trim(), value);
  suggest();
  if (document.activeElement === byId("send-value")) byId("send-value").select();
  return `In Kafka: ${pos}`;
}

// sendBurst writes many notifications for a person, one after the other, so that they stay in order. onSent
// receives the number of those written.
export async function sendBurst(people, person, onSent) {
  for (let i = 0; i < burst; i++) {
    const [type, text] = samples[i % samples.length];
    await write(people, person.user, type, `${text} (${i + 1} of ${burst})`);
    onSent(i + 1);
  }
}

export async function startTask(person, name, seconds) {
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 120) throw new Error("Seconds must be a whole number from 1 to 120.");
  if (!name) throw new Error("Give the task a name.");
  const cut = person.cut?.open && person.cut;
  const body = JSON.stringify({ user: person.user, name, seconds });
  const { task } = await ask("POST", "demo/tasks", { "Content-Type": "application/json" }, body);
  person.wrote(`${task} 1`, cut, true);
  return person.connected ? "" : "Accepted. Reconnect to see it.";
}
