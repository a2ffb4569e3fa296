// What a person does with the page, which stands in a frame.

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export async function until(condition, what) {
  for (let tries = 0; tries < 600; tries++) {
    if (condition()) return;
    await pause(50);
  }
  throw new Error(`waited 30 s for: ${what}`);
}

// Opens the page; waits for its model unless told not to.
export async function open({ width = 1200, ready = true } = {}) {
  document.body.replaceChildren();
  const frame = Object.assign(document.createElement("iframe"), { src: "index.html", width, height: 800 });
  document.body.append(frame);
  await new Promise((resolve) => (frame.onload = resolve));
  const user = new User(frame.contentWindow);
  await until(() => !user.$("unstarted"), "the page to start");
  if (ready) await until(() => !user.$("about").hidden || !user.$("problem").hidden, "the model");
  return user;
}

class User {
  constructor(window) {
    this.window = window;
    this.document = window.document;
  }

  $(id) {
    return this.document.getElementById(id);
  }

  problem() {
    return this.$("problem").hidden ? "" : this.$("reason").textContent;
  }

  answers() {
    return this.document.querySelectorAll(".answer").length;
  }

  // The newest answer's element of a class, as text.
  text(className) {
    return this.document.querySelector(`.answer .${className}`)?.firstChild.textContent ?? "";
  }

  transfer(file) {
    const transfer = new this.window.DataTransfer();
    transfer.items.add(file);
    return transfer;
  }

  async settled() {
    await until(() => !this.$("ask").disabled, "the page to be ready again");
    await pause(50);
  }

  // Chooses a file, and waits until it is shown or refused.
  async choose(file) {
    this.$("problem").hidden = true;
    const before = this.$("preview").src;
    this.$("file").files = this.transfer(file).files;
    this.$("file").dispatchEvent(new this.window.Event("change"));
    await this.shownOrRefused(before);
  }

  async shownOrRefused(before) {
    await until(() => this.$("preview").src !== before || this.problem(), "the picture");
    await pause(100);
    return this.problem() || "shown";
  }

  async ask(question) {
    this.$("question").value = question;
    this.$("form").requestSubmit();
    await this.settled();
  }
}

export async function picture(name) {
  return new File([await (await fetch(`pictures/${name}`)).blob()], name);
}

// Runs a scenario and sends back what it gives, or its error.
export async function report(scenario) {
  const result = await scenario().catch((error) => ({ error: `${error.message}\n${error.stack}` }));
  await post({ result });
}

export async function post(content) {
  await fetch("result", { method: "POST", body: JSON.stringify(content) });
}
