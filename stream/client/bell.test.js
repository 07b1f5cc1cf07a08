// Runs the bell of PROTOCOL.md as it stands there, through a cut and a reload.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { FakeServer, live, opening, record, stream, turns } from "./fake-server.js";

const directory = import.meta.dirname;
const source = (await readFile(join(directory, "../PROTOCOL.md"), "utf8")).match(/\n```js\n(import .*?)\n```\n/s)[1];
const note = (id) => record(id, `{"text":"note ${id}"}`);

// load runs the bell in a page of a tab, and returns the page's elements. The page has no Web Locks, so it does not share.
async function load(tab, server) {
  const elements = {};
  const element = () => Object.assign(new EventTarget(), { replaceChildren(...children) { this.children = children; } });
  globalThis.document = Object.assign(new EventTarget(), {
    baseURI: "https://app.example.com/", hidden: false, createElement: () => ({}), getElementById: (id) => (elements[id] ??= element()),
  });
  globalThis.sessionStorage = { getItem: (name) => tab[name] ?? null, setItem: (name, value) => { tab[name] = value; } };
  globalThis.fetch = async (url, init) => {
    if (url === "/token") return new Response("a token");
    if (new URL(url).pathname === "/session") return Response.json({ expires: "2100-01-01T00:00:00Z" });
    return server.fetch(url, init);
  };
  const module = source.replace("https://events.example.com/herald.js", new URL("herald.js", import.meta.url));
  const page = tab.loads = (tab.loads ?? 0) + 1;
  await import(`data:text/javascript,${encodeURIComponent(`${module}\nglobalThis.stream = stream; // ${page}`)}`);
  await turns();
  return {
    stream: globalThis.stream,
    shown: () => `${elements.count.textContent}: ${elements.list.children.map(({ textContent }) => textContent.split(" ").at(-1))}`,
    click: () => elements.list.dispatchEvent(new Event("click")),
    get loading() { return !elements.loading.hidden; },
  };
}

test("the bell of PROTOCOL.md counts what is new, also after a cut and a reload", async () => {
  const tab = {};
  const server = new FakeServer(
    stream(opening("1"), note("2")),
    stream(opening("3"), note("4"), live("4")),
    stream(opening("4"), note("5"), record("6", '"text"'), record("7", "null"), live("7")),
  );
  let page = await load(tab, server);
  assert.equal(page.shown(), "0: 2");
  assert.equal(page.loading, true);
  server.last.send(live("2"));
  server.last.send(note("3"));
  await turns();
  assert.equal(page.shown(), "1: 3,2");
  assert.equal(page.loading, false);
  page.stream.reconnect();
  await turns();
  assert.equal(page.shown(), "2: 4,3,2");
  page.stream.close();
  page = await load(tab, server); // the tab loads the page again
  assert.deepEqual(server.requests.map(({ headers }) => headers["Last-Event-ID"]), [undefined, "3", "4"]);
  assert.equal(page.shown(), "5: null,text,5,4,3,2");
  page.click();
  assert.equal(page.shown(), "0: null,text,5,4,3,2");
  page.stream.close();
});
