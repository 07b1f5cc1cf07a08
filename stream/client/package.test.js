// The package has the files that package.json names, and Node.js loads it by its name.
import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { test } from "node:test";

test("the package is complete", async () => {
  const described = JSON.parse(await readFile(new URL("package.json", import.meta.url), "utf8"));
  await Promise.all(described.files.map((name) => access(new URL(name, import.meta.url))));
  assert.equal(described.dependencies, undefined);
  await import("herald-client");
});
