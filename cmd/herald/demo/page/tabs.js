// Counts the tabs that show the same person: each holds a shared Web Lock while it does.

const prefix = "herald-demo:";
const held = new Map(); // user → function that lets go

export function enter(user) {
  if (!navigator.locks || held.has(user)) return;
  const left = new Promise((leave) => { held.set(user, leave); });
  navigator.locks.request(prefix + user, { mode: "shared" }, () => left);
}

export function leave(user) {
  held.get(user)?.();
  held.delete(user);
}

// countTabs returns the number of tabs, or 0 where the browser has no Web Locks, as on pages without HTTPS.
export async function countTabs(user) {
  if (!navigator.locks) return 0;
  const { held: locks } = await navigator.locks.query();
  return locks.filter((lock) => lock.name === prefix + user).length;
}
