// Suggestions for the word at the caret. Each change asks for new ones; a click or a key inserts one.

import { profile } from "./profile.js";

const COUNT = 5;
const MAX_WORDS = 4; // in a suggestion
const BLOCK = 20_000; // characters; the last one to two blocks of a long text are sent, more than the service reads
const RETRY = 2_000; // ms
const SPEAK_AFTER = 700; // ms without typing
const COMPARE_AFTER = 250; // ms without typing
const TAIL = 300; // characters before and after the caret that are searched for the typed word
const TAB = -1; // in place of the number of a suggestion
const CONFIRM = 1_500; // ms in which the button says "Copied"

// A word, as nextword.lm.words defines it. It may have invisible characters.
const LETTER = "(?![\\ufe0e\\ufe0f\\u20e3])[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\u200c\\u200d]";
const UNSEEN = "[\\xad\\u200b\\u200e\\u200f\\u202a-\\u202e\\u2060-\\u2064\\ufeff\\ufe0e\\ufe0f]";
const MARK = "['‘’\\u2010\\u2011\\xb7-]";
const HEBREW = "\\u05d0-\\u05ea\\u05ef-\\u05f2\\ufb1d-\\ufb4f";
const AFTER_HEBREW = `(?<=[${HEBREW}\\u0591-\\u05bd\\u05bf\\u05c1\\u05c2\\u05c4\\u05c5\\u05c7])`;
const HEBREW_QUOTE = '["“”\\u05f4]';
const HEBREW_END = "['‘’\\u05f3]";
const MORE = `(?:${LETTER}|${UNSEEN})*`;
const WITHIN = `${MARK}${LETTER}${MORE}|${AFTER_HEBREW}(?:${HEBREW_QUOTE}(?=[${HEBREW}])|${HEBREW_END})${MORE}`;
const NOT_FIRST = "[©®‼⁉™ℹ↔-↙↩↪Ⓜ▪▫▶◀◻◼➡⤴⤵⬅-⬇〰〽㊗㊙]\\ufe0f|[\\p{M}\\u200c\\u200d]"; // ℹ is a letter, ℹ️ an emoji
const UNFINISHED = `(?:(?:${MARK}|${AFTER_HEBREW}${HEBREW_QUOTE})?${UNSEEN}*$)?`;
const WORD = new RegExp(`(?!${NOT_FIRST})${LETTER}${MORE}(?:${WITHIN})*${UNFINISHED}`, "gu");
const OF_WORDS = new RegExp(`^(?:${LETTER}|${UNSEEN}|${MARK}|${HEBREW_QUOTE}|${HEBREW_END})+$`, "u");
const PLAIN = [[/[‘’ʼ]/g, "'"], [/[“”]/g, '"'], [/[\u2010\u2011]/g, "-"], [new RegExp(UNSEEN, "gu"), ""]];
const segmenter = Intl.Segmenter && new Intl.Segmenter(undefined, { granularity: "word" });

const EXAMPLE = `Dear Zofia, thank you very much for the walk along the Vistula last Sunday. Barnaby slept all the way home.
Could you ask Doctor Okonkwo whether the physiotherapy can be moved to Thursday? Barnaby and I would come by tram.
I will bring pierogi and the new crossword. See you on Thursday, Zofia. Barnaby sends his love.`;

const [text, mirror, ghost, copy, empty, history, effect, example, words, notice, digits, emoji, model, read, cost, spoken,
  template] = ["text", "mirror", "ghost", "copy", "clear", "history", "effect", "example", "words", "notice", "digits",
  "emoji", "model", "read", "cost", "spoken", "suggestion"].map((id) => document.getElementById(id));

// A balancer in front of several services can send all questions of a page to the one that has its text in memory.
const SESSION = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");

let asked; // the text before the caret in the last question
let shown; // the text before the caret for which the suggestions are shown
let dismissed = false; // true after Escape, until the text changes
let sequence = 0; // the number of the last question, which shows that an answer is late
let controller = new AbortController();
let pressed = 0; // the number of a suggestion whose key was pressed before the answer came
let finished = false; // true if the typed word is itself the likeliest one
let autoSpace = -1; // the end of the space that came with an inserted word
let timers = {};

const before = () => text.value.slice(0, text.selectionStart);

// The last blocks of a text. A growing text keeps their beginning, which the service has in its cache.
const recent = (string) =>
  string.slice(Math.max(0, Math.floor(string.length / BLOCK) - 1) * BLOCK).replace(/^[\udc00-\udfff]/, "");

// The typed part of the word at the end of a text. The browser separates words from emoji and other characters. Where the
// definition above differs, its parts are joined (well-known) or cut (3.14).
function unfinished(written) {
  const tail = written.slice(-TAIL);
  const parts = segmenter ? [...segmenter.segment(tail)] : Array.from(tail, (segment) => ({ segment }));
  const other = parts.findLastIndex(({ segment }) => !OF_WORDS.test(segment));
  const cut = parts[other]?.isWordLike ? Array.from(parts[other].segment) : [];
  const first = cut.slice(cut.findLastIndex((character) => !OF_WORDS.test(character)) + 1);
  const end = [...first, ...parts.slice(other + 1).map(({ segment }) => segment)].join("");
  const word = [...end.matchAll(WORD)].at(-1);
  return word && word.index + word[0].length === end.length ? word[0] : "";
}

// The rest of the typed word, from the text after the caret.
function rest(partial, after) {
  if (!partial) return "";
  const [word] = (partial + after.slice(0, TAIL)).match(WORD) ?? [""];
  return word.slice(partial.length);
}

// The parts of a text for a question. The partial word is in Unicode NFC, like all suggestions.
function split(written) {
  const partial = unfinished(written);
  const text = written.slice(0, written.length - partial.length);
  return { text: recent(text), partial: partial.normalize("NFC"), start: text.length };
}

// The number of a suggestion's characters that are typed, and true if they include all typed characters.
function match(word, partial) {
  const plain = PLAIN.reduce((typed, [from, to]) => typed.replace(from, to), partial).toLowerCase();
  let length = 0;
  while (length < plain.length && word[length]?.toLowerCase() === plain[length]) length++;
  if (/[\udc00-\udfff]/.test(word[length])) length--; // do not cut a character in two
  return { length, whole: length === plain.length };
}

// Asking

async function ask(again = false) {
  const written = before();
  copy.disabled = empty.disabled = !text.value;
  if (written === asked && !again) return;
  haunt();
  asked = written;
  dismissed = false;
  pressed = 0;
  clearTimeout(timers.retry);
  controller.abort();
  controller = new AbortController();
  const number = ++sequence;
  const started = performance.now();
  clearTimeout(timers.compare);
  try {
    const own = recent(history.value);
    const answer = await question(split(written), controller.signal, own, profile.name);
    if (number !== sequence) return;
    show(answer, written, performance.now() - started);
    if (pressed) return choose(pressed);
    if (own.trim() || profile.name) timers.compare = setTimeout(() => compare(answer, written), COMPARE_AFTER);
  } catch (error) {
    if (number === sequence) fail(error);
  }
}

// After a pause in typing, ask the same question without the person's own text, to show what that text changes.
async function compare(answer, written) {
  const { signal } = controller;
  const usual = await question(split(written), signal).catch(() => undefined);
  if (usual && !signal.aborted) mark(answer, usual);
}

async function question({ text, partial }, signal, history, own) {
  if (partial.length > 100) return { words: [] };
  const k = COUNT + (partial ? 1 : 0); // one more, because a completely typed word may be a suggestion
  const response = await fetch("v1/next-words", {
    method: "POST",
    headers: { "content-type": "application/json", "x-session": SESSION },
    body: JSON.stringify({ text, partial, history, profile: own, k, max_words: MAX_WORDS, emoji: emoji.checked }),
    signal,
  });
  const answer = await response.json();
  if (response.ok) return answer;
  if (own && answer.error.type === "no_such_profile") {
    profile.lost();
    return question({ text, partial }, signal, history);
  }
  throw Object.assign(new Error(answer.error.message), { refused: response.status < 500 });
}

// Showing

function show(answer, written, milliseconds) {
  shown = written;
  const { partial } = split(written);
  const known = answer.words.some(({ kind }) => kind !== "typed");
  const whole = partial && !rest(partial, text.value.slice(text.selectionEnd));
  finished = whole && answer.words[0]?.word === partial;
  if (whole) answer.words = answer.words.filter(({ word }) => word !== partial); // it is typed already
  answer.words = answer.words.slice(0, COUNT);
  words.replaceChildren(...answer.words.map((word, index) => suggestion(word, index, partial)));
  haunt(finished ? "" : answer.words[0]?.word, answer.words[0]?.kind === "correction");
  effect.textContent = "";
  say(known ? "" : `No word like “${partial}” is known.`);
  if (answer.model) model.textContent = `Model: ${answer.model}`;
  const unknown = answer.unknown?.length ? `; not in its vocabulary: ${answer.unknown.slice(-3).join(", ")}` : "";
  const count = `${answer.context_used} ${answer.context_used === 1 ? "word" : "words"}`;
  read.textContent = answer.model ? `The model has read ${count} before the caret${unknown}` : "";
  cost.textContent = `Answered in ${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
  clearTimeout(timers.speak);
  timers.speak = setTimeout(() => (spoken.textContent = answer.words.map(({ word }) => word).join(", ")), SPEAK_AFTER);
}

function mark(answer, usual) {
  const first = ({ word }) => word.split(" ")[0];
  const known = new Set(usual.words.map(first));
  const own = answer.words.map((word) => !known.has(first(word)));
  words.querySelectorAll("button").forEach((button, index) => {
    if (!own[index]) return;
    button.querySelector(".own").hidden = false;
    button.setAttribute("aria-label", `${button.getAttribute("aria-label")}, from your text`);
  });
  effect.textContent = `${own.filter(Boolean).length || "None"} of ${own.length} from your text`;
}

// The grey text after the caret: the untyped rest of the first suggestion, or of the last one until an answer comes. A
// correction stands there whole, behind an arrow.
let promised = ""; // the text up to the end of the grey text
function haunt(word, corrects = false) {
  const written = before();
  const atEnd = written && written.length === text.value.length;
  if (word !== undefined && atEnd) {
    const { partial, start } = split(written);
    const { length, whole } = match(word, partial);
    promised = whole && !corrects ? written + lead(written.slice(0, start)) + word.slice(length) : "";
  } else if (word !== undefined || !promised.startsWith(written)) {
    promised = "";
  }
  mirror.firstChild.textContent = written;
  ghost.textContent = !atEnd ? "" : corrects ? ` → ${word}` : promised.slice(written.length);
  mirror.scrollTop = text.scrollTop;
}

function suggestion({ word, share, kind }, index, partial) {
  const item = template.content.cloneNode(true);
  const corrects = kind === "correction";
  const length = corrects ? 0 : match(word, partial).length;
  const percent = 100 * share;
  const number = percent < 0.1 ? "< 0.1" : percent.toFixed(percent < 10 ? 1 : 0);
  const button = item.querySelector("button");
  button.setAttribute("aria-label", `${word}, ${corrects ? "correction, " : ""}${number} percent`);
  item.querySelector(".corrects").hidden = !corrects;
  button.dataset.word = word;
  button.title = partial
    ? `Of the words that fit “${partial}”, this one comes with a probability of ${number} %`
    : `Of all words, this one comes next with a probability of ${number} %`;
  item.querySelector("kbd").textContent = index + 1;
  item.querySelector(".word").append(typed(word.slice(0, length)), word.slice(length));
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
  if (notice.textContent !== message) notice.textContent = message; // screen readers speak each change
  notice.classList.toggle("fault", fault);
}

function clear() {
  shown = undefined;
  pressed = 0;
  clearTimeout(timers.compare);
  haunt("");
  effect.textContent = read.textContent = "";
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

const lead = (context) => (/(^|\s|[([{“‘«¿¡—/]|(^|\s)["'])$/u.test(context.slice(-2)) ? "" : " ");

// Insert a word with one space on either side, never two. It replaces the whole word around the caret.
function insert(word) {
  const written = before();
  const context = written.slice(0, split(written).start);
  const end = text.selectionEnd + rest(unfinished(written), text.value.slice(text.selectionEnd)).length;
  const spaced = /^\s/.test(text.value.slice(end));
  text.focus();
  text.setSelectionRange(context.length, end);
  type(lead(context) + word + (spaced ? "" : " "));
  if (spaced) text.setSelectionRange(text.selectionStart + 1, text.selectionStart + 1);
  autoSpace = text.selectionStart;
  ask();
}

// Typed through the editor, so that undo works.
function type(string) {
  if (!document.execCommand("insertText", false, string)) {
    text.setRangeText(string, text.selectionStart, text.selectionEnd, "end");
  }
}

// Punctuation after an inserted word replaces the space that came with the word.
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
  // Not the number pad: on Windows, Alt and a number there write a character.
  if (event.altKey) return Number(event.code.match(/^Digit([1-5])$/)?.[1] ?? 0);
  if (event.key === "Tab") return event.shiftKey ? 0 : TAB;
  return digits.checked && /^[1-5]$/.test(event.key) && /(^|\s)$/.test(before()) ? Number(event.key) : 0;
}

// Tab chooses the first suggestion; if the typed word is the likeliest one, it keeps that word.
function chosenWord(number) {
  if (number === TAB && finished) return unfinished(before());
  return words.querySelectorAll("button")[number === TAB ? 0 : number - 1]?.dataset.word;
}

function choose(number) {
  const word = chosenWord(number);
  if (word) insert(word);
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
  if (!waiting && !chosenWord(number)) return;
  event.preventDefault();
  if (waiting) pressed = number;
  else choose(number);
}

text.addEventListener("keydown", onKey);
text.addEventListener("beforeinput", closeUp);
text.addEventListener("input", () => {
  profile.written(text.value);
  ask();
});
document.addEventListener("selectionchange", () => document.activeElement === text && ask());
words.addEventListener("pointerdown", (event) => event.preventDefault()); // the text keeps the focus, a phone its keyboard
words.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) insert(button.dataset.word);
});
text.addEventListener("scroll", () => (mirror.scrollTop = text.scrollTop));
function readHistory() {
  example.textContent = history.value ? "Clear" : "Try an example";
  ask(true);
}
history.addEventListener("input", readHistory);
example.addEventListener("click", () => {
  history.value = history.value ? "" : EXAMPLE;
  readHistory();
});
// Copied through the editor, because pages without HTTPS cannot use the clipboard itself.
copy.addEventListener("click", () => {
  const { selectionStart, selectionEnd } = text;
  text.focus();
  text.select();
  const copied = document.execCommand("copy");
  text.setSelectionRange(selectionStart, selectionEnd);
  copy.textContent = spoken.textContent = copied ? "Copied" : "Not copied";
  clearTimeout(timers.copy);
  timers.copy = setTimeout(() => (copy.textContent = "Copy"), CONFIRM);
});
// Cleared through the editor, so that undo works.
empty.addEventListener("click", () => {
  text.focus();
  text.select();
  document.execCommand("delete");
});
digits.checked = localStorage.getItem("digits") === "on";
digits.addEventListener("change", () => localStorage.setItem("digits", digits.checked ? "on" : "off"));
emoji.checked = localStorage.getItem("emoji") === "on";
emoji.addEventListener("change", () => {
  localStorage.setItem("emoji", emoji.checked ? "on" : "off");
  ask(true);
});
profile.start(() => ask(true));
ask();
