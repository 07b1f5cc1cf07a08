// A bell for React: any number of components show one stream.
import { connect, type State } from "herald-client";
import { useSyncExternalStore } from "react";

type Note = { text: string };
let shown = { state: "connecting" as State, notes: [] as Note[] };
const watchers = new Set<() => void>();
const show = (change: Partial<typeof shown>) => {
  shown = { ...shown, ...change };
  watchers.forEach((changed) => changed());
};
let open = () => {
  open = () => {}; // the stream outlives the components: in StrictMode, React removes each one once
  const stream = connect<{ message: Note }>("/events", { session: true, share: true });
  stream.on("message", (event) => show({ notes: [event.data, ...shown.notes] }));
  stream.on("state", (change) => show({ state: change.state }));
};
const subscribe = (changed: () => void) => {
  open();
  watchers.add(changed);
  return () => void watchers.delete(changed);
};

export function Bell() {
  const { state, notes } = useSyncExternalStore(subscribe, () => shown, () => shown);
  return <p title={state}>{notes.length} notifications</p>;
}
