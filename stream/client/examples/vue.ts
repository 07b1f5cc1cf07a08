// A bell for Vue. Its stream ends with the component.
import { connect, type State } from "herald-client";
import { defineComponent, h, onScopeDispose, ref } from "vue";

type Note = { text: string };
export function useNotes(url: string | URL) {
  const notes = ref<Note[]>([]), state = ref<State>("connecting");
  const stream = connect<{ message: Note }>(url, { session: true, share: true });
  stream.on("message", (event) => notes.value.unshift(event.data));
  stream.on("state", (change) => { state.value = change.state; });
  onScopeDispose(() => stream.close());
  return { notes, state };
}

export const Bell = defineComponent(() => {
  const { notes, state } = useNotes("/events");
  return () => h("p", { title: state.value }, `${notes.value.length} notifications`);
});
