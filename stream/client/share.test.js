// Tabs that share a stream: histories by chance (simulation.js), and bugs that the simulation must find.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { simulate } from "./simulation.js";

// HERALD_SIMULATIONS=FIRST,COUNT plays other histories. A failure names its seed.
const [first, count] = (process.env.HERALD_SIMULATIONS ?? "1,60").split(",").map(Number);

test("each tab gets each record once, whatever happens to the tabs", async () => {
  for (let seed = first; seed < first + count; seed++) await simulate(seed);
});

// Each bug is a text of herald-share.js, what stands in its place, and the seed to begin with.
const bugs = {
  "a missing message is not noticed": ["message.n !== this.next || ", "", 130],
  "a tab that is ahead takes the owner's id": ["!covers(decode(place.id) ?? {}, shown)", "false"],
  "a tab that is behind takes the owner's id": ["if (lacks(decode(this.need)))", "if (false)"],
  "a record that the tab lacks is passed over": ["if (event && !isQuiet(event) && lacks(placeOf(event)))", "if (false)"],
  "a page that was reloaded forgets where it began": ["this.shown ??= decode(event.id)", "this.shown ??= {}"],
  "the viewer is not looked at again": ["if (this.verified) return", "if (this.verified || this.viewer) return"],
  "a silent owner keeps the stream": ["this.#request({ steal: true })", "this.#request()", 75],
};

for (const [name, [text, bug, from = 1]] of Object.entries(bugs)) {
  test(`the simulation finds a bug: ${name}`, async () => {
    const source = await readFile(new URL("herald-share.js", import.meta.url), "utf8");
    assert.equal(source.split(text).length, 2, `herald-share.js has not ${text} once`);
    const { share } = await import(`data:text/javascript,${encodeURIComponent(source.replace(text, bug))}`);
    let seed = from;
    await assert.rejects(async () => {
      for (; seed < 200; seed++) await simulate(seed, { share });
    }, /LOSS|REPEAT|LEAK|connections|in the end/);
    console.log(`found by seed ${seed}`);
  });
}
