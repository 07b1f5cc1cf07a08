// Forms and requests: sends what a person enters, and shows the answer.

import { byId, setText } from "./view.js";

export const slowAfter = 5000; // milliseconds
const connectionRule = byId("connection-rule").textContent;

// ask sends a request and returns the JSON of its answer, or {} if the answer has no JSON. If the request
// fails, it throws an Error with the server's message, if there is one.
export async function ask(method, address, headers, body) {
  let response;
  try {
    response = await fetch(new URL(address, document.baseURI), { method, headers, body });
  } catch {
    throw new Error("The server did not answer.");
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) throw new Error(answer?.error?.message ?? `The server answered ${response.status} ${response.statusText}.`);
  return answer ?? {};
}

export function post(address, contentType, body) {
  return ask("POST", address, { "Content-Type": contentType }, body);
}

// onSubmit runs a form's action, one at a time, and shows its result.
export function onSubmit(form, result, action) {
  byId(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("[type=submit]");
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    const output = byId(result);
    const slow = setTimeout(() => {
      setText(output, `No answer yet. ${connectionRule}`);
      output.classList.remove("error");
    }, slowAfter);
    try {
      setText(output, await action());
      output.classList.remove("error");
    } catch (error) {
      setText(output, error.message);
      output.classList.add("error");
    } finally {
      clearTimeout(slow);
      button.ariaDisabled = null;
    }
  });
}

export function checkJSON(text) {
  try {
    JSON.parse(text);
  } catch (error) {
    throw new Error(`The value is not JSON (${error.message}). Correct it, or choose plain text.`);
  }
}
