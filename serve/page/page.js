// Suggestions for the word at the caret: asked for at each change, inserted by click or key.

const COUNT = 5;
const CONTEXT = 20_000; // characters before the caret that are sent; the service reads its last 1,000 words
const RETRY = 2_000; // ms
const SPEAK_AFTER = 700; // ms without typing
const WORD_AT_END = /[\p{L}\p{M}\p{N}_]+(?:['’-][\p{L}\p{M}\p{N}_]+)*['’-]?$/u;

const [text, words, notice, digits, model, cost, spoken, template] =
  ["text", "words", "notice", "digits", "model", "cost", "spoken", "suggestion"].map((id) => document.getElementById(id));

let asked; // the text before the caret that the last question was about
let shown; // the text before the caret that the shown words are for
let dismissed = false; // by Escape, until the text changes
let sequence = 0; // of questions, so that a late answer is known as such
let controller = new AbortController();
let autoSpace = -1; // where an inserted word's own space ends
let timers = {};

const before = () => text.value.slice(0, text.selectionStart);

function split(written) {
  const partial = written.match(WORD_AT_END)?.[0] ?? "";
  return { text: written.slice(0, written.length - partial.length).slice(-CONTEXT), partial };
}

// Asking

async function ask(again = false) {
  const written = before();
  if (written === asked && !again) return;
  asked = written;
  dismissed = false;
  clearTimeout(timers.retry);
  controller.abort();
  controller = new AbortController();
  const number = ++sequence;
  const started = performance.now();
  try {
    const answer = await question(split(written), controller.signal);
    if (number === sequence) show(answer, written, performance.now() - started);
  } catch (error) {
    if (number === sequence) fail(error);
  }
}

async function question({ text, partial }, signal) {
  if (partial.length > 100) return { words: [] };
  const response = await fetch("/v1/next-words", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ text, partial, k: COUNT }),
    signal,
  });
  const answer = await response.json();
  if (response.ok) return answer;
  throw Object.assign(new Error(answer.error.message), { refused: response.status < 500 });
}

// Showing

function show(answer, written, milliseconds) {
  shown = written;
  const { partial } = split(written);
  words.replaceChildren(...answer.words.map((word, index) => suggestion(word, index, partial)));
  say(answer.words.length ? "" : `No word that begins with “${partial}” is known.`);
  if (answer.model) model.textContent = answer.model;
  cost.textContent = `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
  clearTimeout(timers.speak);
  timers.speak = setTimeout(() => (spoken.textContent = answer.words.map(({ word }) => word).join(", ")), SPEAK_AFTER);
}

function suggestion({ word, probability }, index, partial) {
  const item = template.content.cloneNode(true);
  const percent = 100 * probability;
  const number = percent < 0.1 ? "< 0.1" : percent.toFixed(percent < 10 ? 1 : 0);
  const button = item.querySelector("button");
  button.setAttribute("aria-label", `${word}, ${number} percent`);
  button.dataset.word = word;
  item.querySelector("kbd").textContent = index + 1;
  item.querySelector(".word").append(typed(word.slice(0, partial.length)), word.slice(partial.length));
  item.querySelector(".bar i").style.width = `${percent}%`;
  item.querySelector(".percent").textContent = `${number} %`;
  return item;
}

function typed(letters) {
  const element = document.createElement("b");
  element.textContent = letters;
  return element;
}

function say(message, fault = false) {
  if (notice.textContent !== message) notice.textContent = message; // said aloud at each change
  notice.classList.toggle("fault", fault);
}

function clear() {
  shown = undefined;
  words.replaceChildren();
  clearTimeout(timers.speak);
}

function fail(error) {
  clear();
  cost.textContent = "";
  const why = error.refused ? error.message : "The service does not answer. Suggestions come back as soon as it does.";
  say(why, true);
  if (!error.refused) timers.retry = setTimeout(() => ask(true), RETRY);
}

// Inserting

// A word goes in with one space on either side, none of them doubled.
function insert(word) {
  const written = before();
  const { partial } = split(written);
  const context = written.slice(0, written.length - partial.length);
  const after = text.value.slice(text.selectionEnd);
  const leading = /(^|\s|[([{“‘«¿¡—/]|(^|\s)["'])$/u.test(context) ? "" : " ";
  const spaced = /^\s/.test(after);
  text.focus();
  text.setSelectionRange(context.length, text.selectionEnd);
  type(leading + word + (spaced ? "" : " "));
  if (spaced) text.setSelectionRange(text.selectionStart + 1, text.selectionStart + 1);
  autoSpace = text.selectionStart;
  ask();
}

// Typed through the editor, so that undo takes it back.
function type(string) {
  if (!document.execCommand("insertText", false, string)) {
    text.setRangeText(string, text.selectionStart, text.selectionEnd, "end");
  }
}

// Punctuation after an inserted word takes the place of the word's own space.
function closeUp(event) {
  const follows = autoSpace === text.selectionStart && autoSpace === text.selectionEnd;
  if (follows && event.inputType === "insertText" && /^[.,;:!?)\]}”’»…]$/.test(event.data)) {
    text.setSelectionRange(autoSpace - 1, autoSpace);
  }
  autoSpace = -1;
}

// Keys

function chosen(event) {
  if (event.ctrlKey || event.metaKey || event.isComposing || event.getModifierState("AltGraph")) return 0;
  if (event.altKey) return Number(event.code.match(/^(?:Digit|Numpad)([1-5])$/)?.[1] ?? 0);
  if (event.key === "Tab") return event.shiftKey ? 0 : 1;
  return digits.checked && /^[1-5]$/.test(event.key) && /(^|\s)$/.test(before()) ? Number(event.key) : 0;
}

function onKey(event) {
  if (event.key === "Escape" && !event.isComposing) {
    clear();
    say("");
    dismissed = true;
    return;
  }
  const number = chosen(event);
  if (!number || dismissed) return;
  const waiting = shown !== before() && !notice.classList.contains("fault");
  const button = words.querySelectorAll("button")[number - 1];
  if (!waiting && !button) return;
  event.preventDefault();
  if (!waiting) insert(button.dataset.word);
}

text.addEventListener("keydown", onKey);
text.addEventListener("beforeinput", closeUp);
text.addEventListener("input", () => ask());
document.addEventListener("selectionchange", () => document.activeElement === text && ask());
words.addEventListener("pointerdown", (event) => event.preventDefault()); // the text keeps the focus, a phone its keyboard
words.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) insert(button.dataset.word);
});
digits.checked = localStorage.getItem("digits") !== "off";
digits.addEventListener("change", () => localStorage.setItem("digits", digits.checked ? "on" : "off"));
ask();
