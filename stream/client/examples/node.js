// Prints a user's notifications. At the next start, it first prints the notifications that came while it did not run:
// HERALD_TOKEN=… node node.js https://events.example.com/events
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "herald-client";

const [, , url = "http://127.0.0.1:8080/events?user=alice"] = process.argv;
const token = process.env.HERALD_TOKEN;
const lastEventId = await readFile("last-event-id", "utf8").catch(() => undefined);
const stream = connect(url, { lastEventId, since: "earliest", token: token ? () => token : undefined });
stream.on("state", (change) => console.error(change.state, change.message ?? ""));
process.once("SIGINT", () => stream.close());
for await (const event of stream) {
  console.log(event.type, event.data);
  await writeFile("last-event-id", event.id); // after the work: what fails here comes again
}
