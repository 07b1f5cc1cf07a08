// The page's words for times, states, gaps, and what happened while a connection was cut.

export function describeAge(ms) {
  const seconds = Math.floor(Math.max(0, ms) / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

function describeDuration(ms) {
  if (ms < 1000) return `${Math.max(1, Math.round(ms))} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : describeAge(ms);
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

const lost = { network: "There is no connection to the server.", draining: "The server restarts.", busy: "The server is busy.",
  "keys-unavailable": "The server cannot check tokens at the moment." };

// describeStream returns a key, a title and an explanation of the stream's condition.
export function describeStream({ cut, live, change, condition }) {
  if (cut?.open && cut.kind === "cut") return ["cut", "Cut", ""];
  const why = lost[change.reason] ?? sentence(change.message ?? "");
  switch (change.state) {
    case "open":
      if (condition === "kafka-down") return ["kafka-down", "Kafka is unreachable", "The stream waits, and continues when Kafka is back."];
      if (condition === "not-ready") return ["not-ready", "Not ready", "The server cannot read all records yet; /readyz on its admin listener says why."];
      return live ? ["open", "Live", ""] : ["catching-up", "Catching up", "The stream brings the missed records."];
    case "stale":
      return ["waiting", "No sign of life", "Nothing came for too long: the stream is opened again."];
    case "waiting":
      return ["waiting", "Reconnecting", `${why} ${describeAttempt(change.until)}`.trim()];
    case "offline":
      return ["waiting", "Offline", "This device has no network. The stream continues when the network is back."];
    case "signed-out":
      return ["closed", "Refused", change.reason === "user-not-served" ? why : `${why} If the server wants a token now, reload the page.`.trim()];
    case "replaced":
      return ["replaced", "Replaced", "A newer stream of this user took this stream’s place, because the server limits the streams of a user."];
    case "closed":
      return ["closed", "Refused", `${why} Reload the page to try again.`.trim()];
    default:
      return ["connecting", "Connecting", ""];
  }
}

// sentence makes a sentence of a server's message.
export function sentence(text) {
  return text && text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

function describeAttempt(until) {
  const seconds = until ? Math.ceil((until - Date.now()) / 1000) : 0;
  return seconds > 0 ? `The next attempt is in ${seconds} s.` : "Trying again.";
}

// describeShare says which tabs use the stream. tabs is their number with this tab, or 0 if it is unknown.
export function describeShare(shared, tabs) {
  const others = tabs > 1 ? count(tabs - 1, "other tab") : "";
  if (shared === "follower") return others ? `This tab shares its connection with ${others}.` : "This tab shares the connection of another tab.";
  if (shared === "owner") return others ? `This tab holds the connection for ${others}.` : "This tab holds the connection.";
  return "This tab has its own connection.";
}

// describeCut says what became of the records that were written while there was no connection.
export function describeCut(cut) {
  if (cut.open) return cut.missed ? `${count(cut.missed, "record")} ${cut.missed === 1 ? "waits" : "wait"} in Kafka.` : "Records now wait in Kafka.";
  if (cut.took === null) return "Catching up.";
  const took = describeDuration(cut.took);
  const twice = cut.twice ? `${cut.twice} twice` : "none twice";
  const others = cut.others ? `, and ${count(cut.others, "record")} of other writers` : "";
  const ofTasks = cut.ofTasks ? ` (${cut.ofTasks} of tasks)` : "";
  if (cut.missed) return `Missed ${cut.missed}${ofTasks}, caught up ${cut.caught} in ${took}${others}, ${twice}.`;
  if (cut.others) return `Caught up ${count(cut.others, "record")} in ${took}, ${twice}.`;
  return cut.kind === "away" ? "" : `Live again after ${took}. Nothing was written meanwhile.`;
}

// describeGap explains a gap: the stream was at offset "from" and continues at offset "to".
export function describeGap({ source, partition, from, to, reason }) {
  if (!source) return "The last event ID is not from this server: the stream begins with the next records.";
  if (partition === undefined && reason === "unknown-id") return `${source}: the last event ID does not contain this topic; it begins with the next records.`;
  const where = partition === undefined ? source : `${source}-${partition}`;
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
    case "undecodable":
      return `${where}: the value of ${records} does not fit the format of the topic.`;
    case "replay-limit":
      return `${where}: ${records} exceed the server’s limits for a replay.`;
    default:
      return `${where}: ${records} cannot be delivered: ${reason}.`;
  }
}
