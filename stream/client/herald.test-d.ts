// Uses of the types, which tsc checks. A line below @ts-expect-error must be an error.
import { connect, type Gap, type HeraldEvent, type State, type StateChange, type Stream } from "herald-client";

type Note = { text: string };
type Progress = { percent: number };
type Events = { message: Note; "task-progress": Progress };

/** Exactly compiles if, and only if, both types are the same. */
function exactly<A, B>(_: (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false): void {}

const stream = connect<Events>("/events");
exactly<typeof stream, Stream<Events>>(true);
exactly<typeof stream.state, State>(true);
exactly<typeof stream.lastEventId, string>(true);

// Each event type has its data.
const remove: () => void = stream.on("message", (event) => {
  exactly<typeof event, HeraldEvent<Note, "message">>(true);
  exactly<typeof event.time, Date | undefined>(true);
  exactly<typeof event.headers, Record<string, string>>(true);
  // @ts-expect-error: a message has no percent
  event.data.percent;
  // @ts-expect-error: a page cannot change what it got
  stream.lastEventId = event.id;
});
remove();
stream.on("task-progress", (event) => exactly<typeof event.data, Progress>(true));
stream.on("gap", (gap) => exactly<typeof gap, Gap>(true));
stream.on("live", (live) => exactly<typeof live, { id: string }>(true));
stream.on("state", (change) => exactly<typeof change, StateChange>(true));
stream.on("delete", (event) => exactly<typeof event.data, null>(true));
// @ts-expect-error: no event has this type
stream.on("task-progres", () => {});
// @ts-expect-error: a listener is a function
stream.on("message", "listener");
// @ts-expect-error: a listener of another type
stream.on("message", (event: HeraldEvent<Progress, "message">) => event);

// A type narrows the data, also in a loop.
stream.on("*", (event) => {
  if (event.type === "message") exactly<typeof event.data, Note>(true);
  else if (event.type === "delete") exactly<typeof event.data, null>(true);
  else exactly<typeof event.data, Progress>(true);
  // @ts-expect-error: a tombstone has no data
  event.data.toString();
});
async function loop() {
  for await (const event of stream) {
    switch (event.type) {
      case "message": exactly<typeof event.data, Note>(true); break;
      case "task-progress": exactly<typeof event.data, Progress>(true); break;
      case "delete": exactly<typeof event.data, null>(true); break;
      case "gap": exactly<typeof event.data, Gap>(true); break;
      default: exactly<typeof event, never>(true);
    }
  }
}
void loop();

// Without event types, every type is taken.
const any = connect(new URL("https://events.example.com/events"));
any.on("anything", (event) => event.data.anything);

// Records may have the type of tombstones.
connect<{ message: Note; delete: Note }>("/events").on("*", (event) => exactly<typeof event.data, Note>(true));

// Interfaces are event maps, too.
interface Named { message: Note }
connect<Named>("/events").on("message", (event) => exactly<typeof event.data, Note>(true));

connect("/events", {
  token: async () => "token", session: "/session", since: "24h", types: ["message"], lastEventId: "", share: "alice",
  parse: (data, type) => type + data, staleAfter: 10_000, signal: AbortSignal.timeout(1_000), fetch,
});
connect("/events", { token: () => "token", session: true, share: true });
// @ts-expect-error: a URL is needed
connect();
// @ts-expect-error: an option is misspelt
connect("/events", { tokens: () => "token" });
// @ts-expect-error: a token is made by a function, because it expires
connect("/events", { token: "token" });
// @ts-expect-error: a token is a text
connect("/events", { token: () => 1 });
connect("/events", { types: "message,news", since: new Date() });
// @ts-expect-error: a time is a Date or a text
connect("/events", { since: 1_764_400_000_000 });
// @ts-expect-error: types are texts
connect("/events", { types: [1] });
// @ts-expect-error: no such state
const state: State = "opened";
void state;
