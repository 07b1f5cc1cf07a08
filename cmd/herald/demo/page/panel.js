// One person's panel: joins the person, the view, and what somebody does on it.

import { burst, isUser, sendBurst, startTask, userRule } from "./composer.js";
import { onSubmit, showError, showResult } from "./forms.js";
import { Person } from "./person.js";
import { PersonView, announce, copy, setText } from "./view.js";

export class Panel {
  #frame = 0;
  #sending = false; // a burst is under way

  // page has signsIn, mayPublish, people(), rename(panel, user) and signedOut(reason). options are options of connect.
  // claims are parameters of the stream.
  constructor(user, page, options, claims = []) {
    Object.assign(this, { page, claims });
    const address = new URL("events", document.baseURI);
    if (!page.signsIn) address.searchParams.set("user", user);
    for (const [name, value] of claims) address.searchParams.append(name, value);
    this.person = new Person({ user, address, options, onChange: (text) => this.#changed(text) });
    this.view = new PersonView(user, describeCommand(page.signsIn, address));
    this.view.part("claims").hidden = claims.length === 0;
    setText(this.view.part("claims"), claims.map(([name, value]) => `${name.slice("claim.".length)}: ${value}`).join(", "));
    this.#listen();
    this.person.open();
    this.view.draw(this.person);
  }

  close() {
    this.person.close();
    cancelAnimationFrame(this.#frame);
    this.#frame = -1;
  }

  // tick brings ages and counters up to date.
  tick() {
    announce(this.person.checkTasks());
    this.view.draw(this.person);
  }

  complain(text) {
    const error = this.view.part("user-error");
    error.textContent = text;
    error.hidden = text === "";
    this.view.part("user").setAttribute("aria-invalid", text !== "");
  }

  // changed draws the person with the next frame. A page in the background draws nothing, but its state is current.
  #changed(text) {
    announce(text);
    const { state, reason } = this.person.change;
    if (this.page.signsIn && this.person.connected && state === "signed-out") return this.page.signedOut(reason);
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.view.draw(this.person);
    });
  }

  #listen() {
    const { person, view, page } = this;
    view.element.classList.toggle("signs-in", page.signsIn);
    view.element.classList.toggle("reads", !page.mayPublish);
    for (const element of view.element.querySelectorAll(".may-publish")) element.hidden = !page.mayPublish;
    for (const hint of view.element.querySelectorAll(".may-not-publish")) hint.hidden = page.mayPublish;
    view.part("rename").hidden = page.signsIn;
    view.part("signed-in").hidden = view.part("sign-out").hidden = !page.signsIn;

    view.part("rename").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#rename();
    });
    view.part("user").addEventListener("change", () => this.#rename());
    view.part("cut").addEventListener("click", (event) => {
      if (event.target.dataset.does === "cut") person.cutConnection();
      else person.reconnect();
      view.draw(person); // at once: the button's next click does something else
    });
    view.part("burst").addEventListener("click", () => this.#sendBurst());
    onSubmit(view.part("task-form"), view.part("task-result"),
      () => startTask(person, view.part("task-name").value.trim(), Number(view.part("task-seconds").value)));
    view.part("clear").addEventListener("click", () => this.#edit(() => person.state.clear()));
    view.part("clear-tasks").addEventListener("click", () => this.#edit(() => person.state.clearFinished()));
    view.part("copy-id").addEventListener("click", (event) => copy(event.target, view.part("last-event-id")));
    view.part("copy-curl").addEventListener("click", (event) => copy(event.target, view.part("curl")));
    for (const button of view.element.querySelectorAll("[data-since]")) button.addEventListener("click", () => this.#recall(button));
  }

  #edit(change) {
    change();
    this.person.saveNow();
    this.view.draw(this.person);
  }

  #rename() {
    const user = this.view.part("user").value.trim();
    if (user === this.person.user) return this.complain("");
    if (!isUser(user)) return this.complain(userRule);
    if (this.page.people().some((person) => person.user === user)) return this.complain(`${user} is on the page already.`);
    this.page.rename(this, user);
  }

  async #sendBurst() {
    if (this.#sending) return;
    this.#sending = true;
    const button = this.view.part("burst");
    const text = button.textContent;
    try {
      await sendBurst(this.page.people(), this.person, (sent) => { button.textContent = `Sent ${sent} of ${burst}`; });
    } catch (error) {
      showError(this.view.part("task-result"), error);
    }
    this.#sending = false;
    button.textContent = text;
  }

  // recall shows earlier records.
  async #recall(button) {
    const output = this.view.part("earlier-result");
    output.hidden = false;
    showResult(output, "Reading Kafka…");
    try {
      const found = await this.person.recall(button.dataset.since);
      const where = button.dataset.since === "1h" ? "of the last hour" : "that Kafka keeps";
      showResult(output, found ? `${found.toLocaleString("en")} earlier ${found === 1 ? "record" : "records"} ${where}.` : `No other records ${where}.`);
    } catch (error) {
      showError(output, error);
    }
  }
}

// describeCommand returns the command that shows the person's stream in a terminal.
function describeCommand(signsIn, address) {
  if (signsIn) return `herald tail --url '${address}' --token-file FILE`;
  return `curl -N '${address.href.replaceAll("'", "%27")}'`; // between the quotes of a shell's word
}
