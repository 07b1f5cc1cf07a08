// One connection for all tabs of a site.

// share returns a source (see herald.js) that is one among the tabs which call it with the same name.
export function share(name, { connect, sink }) {
  return connect(sink);
}
