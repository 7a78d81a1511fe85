// The panel of the person's own words, where the service keeps profiles. The page asks with `profile.name`.

const KEEPS = document.documentElement.hasAttribute("data-profiles");
const LISTED = 60; // words
const PART = 50_000; // characters that are taught at once
const REST = 1_500; // ms without typing, before finished sentences are learned
const SENTENCE = /[^\n]*?(?:[.!?…。！？]["'”’»)\]]*(?=\s)|\n)|[^\n]+/gu;
const FINISHED = /[.!?…。！？]["'”’»)\]]*$|\n$/u;

const [learning, lesson, learn, undo, learned, own, erase, template] = ["learning", "lesson", "learn", "undo", "learned",
  "own", "erase", "own-word"].map((id) => document.getElementById(id));

const random = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");

let changed = () => {}; // called when other words may be suggested
let name = (KEEPS && localStorage.getItem("profile")) || undefined; // undefined until something is learned
let last = []; // the ids of the text that was learned last
let sentences = []; // of the text in the editor: those that were learned, with their ids; without an id if taken back
let length = 0; // of that text
let resting;
let queue = Promise.resolve(); // one change after the other

// Of this person; without a name nothing is kept.
export const profile = {
  get name() {
    return name;
  },
  // Tell it which function to call when other words may be suggested.
  start(callback) {
    changed = callback;
    if (KEEPS && name) act(list);
  },
  // Tell it the text in the editor, at each change.
  written(text) {
    if (text.length < length / 2) sentences = []; // another text: what was learned of the last one stays
    length = text.length;
    clearTimeout(resting);
    if (KEEPS && learning.checked) resting = setTimeout(() => act(() => follow(text)), REST);
  },
  // The service has no such profile: it was deleted elsewhere, or dropped.
  lost() {
    name = undefined;
    localStorage.removeItem("profile");
    sentences = [];
    show([]);
  },
};

async function call(method, path = "", body = undefined) {
  const response = await fetch(`v1/profiles/${name}${path}`, {
    method,
    headers: { "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (response.ok) return answer;
  if (answer.error.type === "no_such_profile") profile.lost();
  throw new Error(answer.error.message);
}

// Do one change after the other; say why one fails.
function act(change) {
  queue = queue.then(change).catch((error) => {
    learned.textContent = error instanceof TypeError ? "The service does not answer; nothing was learned." : error.message;
  });
  return queue;
}

async function teach(text) {
  name ??= random();
  const { id, words } = await call("POST", "/text", { text, id: random() });
  localStorage.setItem("profile", name);
  return { id, words };
}

async function teachAll(text) {
  const ids = [];
  let count = 0;
  for (let start = 0; start < text.length; ) {
    const cut = Math.max(text.lastIndexOf("\n", start + PART), text.lastIndexOf(" ", start + PART));
    const end = text.length - start <= PART ? text.length : cut > start ? cut + 1 : start + PART;
    const { id, words } = await teach(text.slice(start, end));
    ids.push(id);
    count += words;
    start = end;
  }
  say(`${count} ${count === 1 ? "word" : "words"} learnt.`, ids);
  await list();
}

// Learn the finished sentences of the text in the editor, and take those back that were changed.
async function follow(text) {
  const parts = (text.match(SENTENCE) ?? []).map((part) => part.trimStart());
  const finished = parts.filter((part) => FINISHED.test(part) && part.trim());
  const kept = sentences.filter((sentence) => {
    const place = finished.indexOf(sentence.text);
    if (place >= 0) finished.splice(place, 1);
    return place >= 0;
  });
  const gone = sentences.filter((sentence) => sentence.id && !kept.includes(sentence));
  sentences = kept;
  for (const { id } of gone) await call("DELETE", `/text/${id}`);
  for (const text of finished) {
    const { id } = await teach(text);
    sentences.push({ text, id });
    say(`Learnt: “${text.trim().slice(0, 60)}”`, [id]);
  }
  if (finished.length || gone.length) await list();
}

function say(message, ids = []) {
  learned.textContent = message;
  last = ids;
  undo.hidden = !ids.length;
}

async function list() {
  if (!name) return show([]);
  const { words } = await call("GET", "/words");
  show(words);
}

function show(words) {
  own.replaceChildren(...words.slice(0, LISTED).map(({ word, count }) => {
    const item = template.content.cloneNode(true);
    item.querySelector(".word").textContent = word;
    item.querySelector(".count").textContent = count;
    const button = item.querySelector("button");
    button.dataset.word = word;
    button.setAttribute("aria-label", `Forget ${word}`);
    return item;
  }));
  erase.hidden = !name;
  if (!name) say("");
  changed();
}

if (KEEPS) {
  lesson.addEventListener("input", () => (learn.disabled = !lesson.value.trim()));
  learn.addEventListener("click", () => act(async () => {
    await teachAll(lesson.value);
    lesson.value = "";
    learn.disabled = true;
  }));
  undo.addEventListener("click", () => act(async () => {
    for (const id of last) await call("DELETE", `/text/${id}`);
    sentences = sentences.map((sentence) => (last.includes(sentence.id) ? { text: sentence.text } : sentence));
    say("Taken back.");
    await list();
  }));
  own.addEventListener("click", ({ target }) => {
    const { word } = target.closest("button")?.dataset ?? {};
    if (word) act(async () => {
      await call("DELETE", `/words/${encodeURIComponent(word)}`);
      say(`“${word}” is forgotten.`);
      await list();
    });
  });
  erase.addEventListener("click", () => act(async () => {
    await call("DELETE");
    profile.lost();
    say("Everything is forgotten.");
  }));
  learning.checked = localStorage.getItem("learning") === "on";
  learning.addEventListener("change", () => localStorage.setItem("learning", learning.checked ? "on" : "off"));
}
