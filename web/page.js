// The page: a picture comes in, questions are asked about it, answers are shown.

import { answerItem, element } from "./answer.js";
import { readImage } from "./image.js";
import { whatIsMissing } from "./requirements.js";

const FOLDER = new URL(".", import.meta.url);
const $ = (id) => document.getElementById(id);

let model = null; // a promise of the Model
let picture = null; // {embedding}, a promise of what the model sees in it

start();

async function start() {
  $("unstarted").remove();
  listen();
  const missing = whatIsMissing();
  if (missing) return tell(missing);
  navigator.serviceWorker?.register(new URL("service_worker.js", FOLDER)).catch(() => {}); // the page works without
  load();
  showExamples().catch(() => {});
}

// Begins to load the model; at an error it is told, and can be tried again.
function load() {
  quiet();
  $("loading").hidden = false;
  $("progress").removeAttribute("value");
  model = import("./model.js").then(({ Model }) => Model.load(FOLDER, showProgress));
  model.then(
    ({ manifest }) => {
      $("loading").hidden = true;
      showVocabulary(manifest.answers);
    },
    (error) => {
      $("loading").hidden = true;
      model = null;
      tell(error.message, load);
    },
  );
}

function showProgress(loaded, total) {
  const mebibytes = (bytes) => (bytes / 2 ** 20).toFixed(1);
  $("stage").textContent =
    loaded < total ? `Getting the model: ${mebibytes(loaded)} of ${mebibytes(total)} MiB` : "Starting the model…";
  $("progress").value = total ? loaded / total : 0;
}

function listen() {
  for (const id of ["file", "photo"]) {
    $(id).addEventListener("change", ({ target }) => {
      if (target.files.length) show(target.files[0]);
      target.value = ""; // so that the same file can be chosen again
    });
  }
  $("change").addEventListener("click", () => $("file").click());
  $("camera").addEventListener("click", () => $("photo").click());
  $("camera").hidden = !touched();
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask($("question").value);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) show(clipboardData.files[0]);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("dropping", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) show(event.dataTransfer.files[0]);
    });
  }
}

// A new picture: shown, and encoded once; answers about the one before go.
async function show(file) {
  quiet();
  const mine = {};
  try {
    const image = await readImage(file);
    picture = mine;
    preview(file);
    mine.embedding = see(image);
    await mine.embedding;
  } catch (error) {
    if (picture === mine) picture = null;
    tell(error.message);
  }
}

function touched() {
  return matchMedia("(pointer: coarse)").matches;
}

async function see(image) {
  return (await loaded()).see(image);
}

async function loaded() {
  if (!model) throw new Error("The model isn't there yet: try to load it again.");
  return model;
}

function preview(file) {
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(file);
  $("preview").hidden = false;
  $("hint").hidden = true;
  $("change").hidden = false;
  $("answers").replaceChildren();
}

async function ask(question) {
  quiet();
  if (!picture) return tell("Choose a picture first.");
  const about = picture;
  $("ask").disabled = true;
  try {
    $("status").textContent = $("loading").hidden ? "Looking…" : "It will be answered when the model is there…";
    const embedding = await about.embedding;
    const found = await (await loaded()).ask(embedding, question);
    if (picture === about) $("answers").prepend(answerItem(question.trim(), found));
    if (!touched()) $("question").select(); // a phone's keyboard would hide the answer
  } catch (error) {
    tell(error.message);
  } finally {
    $("status").textContent = "";
    $("ask").disabled = false;
  }
}

function tell(message, again = null) {
  $("reason").textContent = message;
  $("again").hidden = !again;
  $("again").onclick = again;
  $("problem").hidden = false;
}

function quiet() {
  $("problem").hidden = true;
}

function showVocabulary({ binary, open_ended: others = [] }) {
  const shown = others.slice(0, 60).join(", ");
  const more = others.length > 60 ? `, and ${others.length - 60} more` : "";
  $("vocabulary").textContent = `${binary?.join(" or ") ?? ""}${others.length ? `; ${shown}${more}` : ""}. Nothing else.`;
  $("about").hidden = false;
}

// examples.json: [{image, questions}], pictures that lie beside the page.
async function showExamples() {
  const examples = await (await fetch(new URL("examples.json", FOLDER))).json();
  $("examples").hidden = !examples.length;
  examples.forEach(({ image, questions }, place) => {
    const button = element("button");
    const address = new URL(image, FOLDER);
    button.append(Object.assign(new Image(), { src: address, alt: `Example picture ${place + 1}` }));
    button.addEventListener("click", async () => {
      suggest(questions);
      await show(await (await fetch(address)).blob());
    });
    const item = element("li");
    item.append(button);
    $("example-list").append(item);
  });
}

function suggest(questions) {
  $("suggestions").hidden = !questions.length;
  $("suggestions").replaceChildren(
    ...questions.map((question) => {
      const item = element("li"), button = element("button", "quiet", question);
      button.addEventListener("click", () => {
        $("question").value = question;
        ask(question);
      });
      item.append(button);
      return item;
    }),
  );
}
