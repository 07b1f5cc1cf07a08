// Forms and requests: sends what a person enters, and shows the answer.

import { setText } from "./view.js";
import { sentence } from "./words.js";

const slowAfter = 5000; // milliseconds
export const connectionRule = "Over HTTP/1.1 a browser opens at most six connections to one host, and a tab that shares none uses one for each stream: close another tab.";

const readingTime = 5000; // for an error that may disappear

// ask sends a request and returns the JSON of its answer, or {} if the answer has no JSON. If the request
// fails, it throws an Error with the server's message, if there is one. The error passes if the cause is the
// server or Kafka and not the request.
export async function ask(method, address, headers, body) {
  let response;
  try {
    response = await fetch(new URL(address, document.baseURI), { method, headers, body });
  } catch {
    throw Object.assign(new Error("The server did not answer."), { passes: true });
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    throw Object.assign(new Error(sentence(answer?.error?.message) || `The server answered ${response.status} ${response.statusText}.`),
      { passes: response.status >= 500 });
  }
  return answer ?? {};
}

export function post(address, contentType, body) {
  return ask("POST", address, { "Content-Type": contentType }, body);
}

// onSubmit runs a form's action, one at a time, and shows its result.
export function onSubmit(form, output, action) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    const slow = setTimeout(() => showResult(output, `No answer yet. ${connectionRule}`), slowAfter);
    try {
      showResult(output, await action());
    } catch (error) {
      showError(output, error);
    } finally {
      clearTimeout(slow);
      button.ariaDisabled = null;
    }
  });
}

export function showResult(output, text) {
  setText(output, text);
  output.classList.remove("error");
  delete output.dataset.passes;
}

export function showError(output, error) {
  showResult(output, error.message);
  output.classList.add("error");
  if (error.passes) output.dataset.passes = Date.now() + readingTime;
}

// clearPassed removes the errors whose cause has passed: a stream is open and Kafka answers.
export function clearPassed() {
  for (const output of document.querySelectorAll("[data-passes]")) {
    if (Date.now() > Number(output.dataset.passes)) showResult(output, "");
  }
}
