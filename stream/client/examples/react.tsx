// A bell for React: all components share one stream, which outlives them. Load this file in browsers only.
import { connect } from "herald-client";
import { useSyncExternalStore } from "react";

type Note = { text: string };
// Without token(), nothing renews the session cookie: give connect a token() if the page outlives the session.
const stream = connect<{ message: Note }>("/events", { session: true, share: true });
let notes: Note[] = [];
stream.on("message", (event) => { notes = [event.data, ...notes]; });
const onNote = (changed: () => void) => stream.on("message", changed);
const onState = (changed: () => void) => stream.on("state", changed);

export function Bell() {
  const shown = useSyncExternalStore(onNote, () => notes);
  const state = useSyncExternalStore(onState, () => stream.state);
  return <p title={state}>{shown.length} notifications</p>;
}
