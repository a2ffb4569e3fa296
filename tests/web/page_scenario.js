// A person's way through the page, with all that a person gets wrong.

import { open, picture, report, until } from "./user.js";

report(async () => {
  const found = {};
  let user = await open();

  await user.ask("is it red?");
  found["before a picture"] = user.problem();

  await until(() => !user.$("examples").hidden, "the examples");
  user.document.querySelector("#example-list button").click();
  await until(() => !user.$("preview").hidden, "the example");
  found.suggestions = [...user.document.querySelectorAll("#suggestions button")].map((button) => button.textContent);
  user.document.querySelectorAll("#suggestions button")[1].click();
  await until(() => user.answers() === 1, "an answer");
  found.suggested = [user.text("asked"), user.text("best")];

  await user.ask("  ");
  found["no question"] = user.problem();
  await user.ask("a".repeat(1_000_000));
  found["a million letters"] = user.problem();
  await user.choose(new File(["no picture"], "a.png", { type: "image/png" }));
  found.text = user.problem();
  await user.choose(new File([], "a.png"));
  found.nothing = user.problem();
  await user.choose(bomb(9000, 9000));
  found.bomb = user.problem();

  // The picture of before is still there.
  await user.ask("is it red?");
  await user.ask("what color is it?");
  found["answers after all that"] = user.answers();
  await user.choose(await picture("clear.png"));
  found["answers about another picture"] = user.answers();
  await user.choose(await picture("deep.png"));
  await user.ask("is it red?");
  found["deep grey"] = [user.problem(), user.answers()];

  found.dropped = await given(user, "drop", "dataTransfer", await picture("turned_6.jpg"));
  found.pasted = await given(user, "paste", "clipboardData", await picture("odd.png"));

  await lookForNotes(user, found);
  found.unnamed = unnamed(user.document);
  user = await open({ width: 390 });
  await user.choose(await picture("large.jpg"));
  await user.ask("what color is it? ".repeat(100));
  found["width at 390 px"] = user.document.documentElement.scrollWidth;
  return found;
});

async function given(user, kind, property, file) {
  const before = user.$("preview").src;
  const event = new user.window.Event(kind, { bubbles: true, cancelable: true });
  Object.defineProperty(event, property, { value: user.transfer(file) });
  user.document.body.dispatchEvent(event);
  return user.shownOrRefused(before);
}

// Asks until an answer was withheld and one was unfamiliar.
async function lookForNotes(user, found) {
  const questions = await (await fetch("questions.json")).json();
  for (const name of await (await fetch("pictures.json")).json()) {
    await user.choose(await picture(name));
    for (const question of questions.slice(0, 4)) {
      await user.ask(question);
      const note = user.document.querySelector(".answer:first-child .note");
      const unsure = user.document.querySelector(".answer:first-child .unsure");
      if (note?.textContent.includes(" unlike ")) {
        found.unfamiliar = note.textContent;
        found.foreignIsUnsure = unsure !== null;
      } else if (unsure) {
        found.unsure = user.text("best");
        found.guess = user.document.querySelector(".best small").textContent;
      }
      if (found.unsure && found.unfamiliar) return;
    }
  }
}

// Controls that a screen reader has no name for.
function unnamed(document) {
  const controls = [...document.querySelectorAll("button, input:not([aria-hidden]), progress, img:not([hidden])")];
  const named = (control) =>
    control.textContent.trim() || control.alt || control.getAttribute("aria-label") ||
    [...(control.labels ?? [])].some((label) => label.textContent.trim()) || control.querySelector("img[alt]");
  return controls.filter((control) => !named(control)).map((control) => control.outerHTML);
}

// A PNG whose header promises as many pixels, and which holds none.
function bomb(width, height) {
  const bytes = new Uint8Array(57);
  const view = new DataView(bytes.buffer);
  bytes.set([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13, 73, 72, 68, 82]);
  view.setUint32(16, width);
  view.setUint32(20, height);
  bytes.set([8, 2, 0, 0, 0], 24);
  view.setUint32(29, crc(bytes.subarray(12, 29)));
  bytes.set([0, 0, 0, 0, 73, 68, 65, 84], 33);
  view.setUint32(41, crc(bytes.subarray(37, 41)));
  bytes.set([0, 0, 0, 0, 73, 69, 78, 68], 45);
  view.setUint32(53, crc(bytes.subarray(49, 53)));
  return new File([bytes], "bomb.png", { type: "image/png" });
}

function crc(bytes) {
  let value = ~0;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  }
  return ~value >>> 0;
}
