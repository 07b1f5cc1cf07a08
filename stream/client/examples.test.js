// Runs the examples: what they show, how many streams they open, and how they end.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { FakeServer, refused, stream, turns } from "./fake-server.js";

const directory = import.meta.dirname;
const note = (id, text) => `id: ${id}\ndata: {"text":"${text}"}\n\n`;

before(async () => {
  await import("vue"); // while there is no document, it looks for nothing in it
  execFileSync(join(directory, "node_modules/.bin/tsc"), ["--noEmit", "false", "--rootDir", ".", "--outDir", ".built"], { cwd: directory });
  globalThis.document = Object.assign(new EventTarget(), { baseURI: "https://app.example/", hidden: false });
});
after(() => rm(join(directory, ".built"), { recursive: true }));

test("React: components share a stream, which StrictMode does not open twice", async () => {
  const server = new FakeServer(stream("retry: 10\n\n", note("1", "a")), refused(400, "bad-request"));
  globalThis.fetch = server.fetch;
  globalThis.IS_REACT_ACT_ENVIRONMENT = true;
  const { act, createElement, StrictMode } = await import("react");
  const { create } = await import("react-test-renderer");
  const { Bell } = await import("./.built/examples/react.js");
  const shown = () => root.toJSON().map(({ props, children }) => `${props.title}: ${children.join("")}`);
  let root;
  await act(async () => {
    root = create(createElement(StrictMode, null, createElement(Bell), createElement(Bell)));
    await turns();
  });
  await act(async () => {
    server.last.send(note("2", "b"));
    await turns();
  });
  assert.deepEqual(shown(), ["open: 2 notifications", "open: 2 notifications"]);
  assert.equal(server.requests.length, 1);
  await act(async () => root.unmount());
  server.last.end(); // the stream outlives its components; the refusal closes it
});

test("Vue: the stream ends with the component", async () => {
  const server = new FakeServer(stream(note("1", "a")));
  globalThis.fetch = server.fetch;
  const { effectScope } = await import("vue");
  const { useNotes } = await import("./.built/examples/vue.js");
  const scope = effectScope();
  const { notes, state } = scope.run(() => useNotes("/events"));
  await turns();
  server.last.send(note("2", "b"));
  await turns();
  assert.deepEqual(notes.value.map((one) => one.text), ["b", "a"]);
  assert.equal(state.value, "open");
  scope.stop();
  await turns();
  assert.equal(state.value, "closed");
  assert.equal(server.last.aborted, true);
});

test("Node.js: the process continues where it was stopped", async (t) => {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push([request.headers.authorization, request.headers["last-event-id"]]);
    response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
    response.write(note(`after-${asked.length}`, "hello"));
  });
  t.after(() => server.close());
  await once(server.listen(0, "127.0.0.1"), "listening");
  const cwd = await mkdtemp(join(tmpdir(), "herald-"));
  t.after(() => rm(cwd, { recursive: true }));
  for (const n of [1, 2]) {
    const url = `http://127.0.0.1:${server.address().port}/events`;
    const child = spawn(process.execPath, [join(directory, "examples/node.js"), url], { cwd, env: { ...process.env, HERALD_TOKEN: "secret" } });
    const ended = once(child, "exit");
    let printed = "";
    for await (const text of child.stdout) if ((printed += text).endsWith("\n")) break;
    assert.equal(printed, "message { text: 'hello' }\n");
    while ((await readFile(join(cwd, "last-event-id"), "utf8").catch(() => "")) !== `after-${n}`) await turns();
    child.kill("SIGINT");
    assert.deepEqual(await ended, [0, null]);
  }
  assert.deepEqual(asked, [["Bearer secret", undefined], ["Bearer secret", "after-1"]]);
});
