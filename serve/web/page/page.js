// Suggestions for the word at the caret: asked for at each change, inserted by click or key.

const COUNT = 5;
const MAX_WORDS = 4; // in a suggestion
const BLOCK = 20_000; // characters; of a long text one to two blocks are sent, which the service does not read whole
const RETRY = 2_000; // ms
const SPEAK_AFTER = 700; // ms without typing
const COMPARE_AFTER = 250; // the same
const TAIL = 300; // characters before and behind the caret, in which the word that is typed is looked for
const TAB = -1; // beside the numbers of suggestions
const CONFIRM = 1_500; // ms for which a button says that it has copied

// A word, as nextword.lm.words defines it, with what may be within it that is not seen.
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

// A balancer in front of several services can send all questions of a page to the one that knows its text.
const SESSION = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");

let asked; // the text before the caret that the last question was about
let shown; // the text before the caret that the shown words are for
let dismissed = false; // by Escape, until the text changes
let sequence = 0; // of questions, so that a late answer is known as such
let controller = new AbortController();
let pressed = 0; // the number of the suggestion that a key has chosen before the answer came
let finished = false; // whether the word that is typed is itself the likeliest one
let autoSpace = -1; // where an inserted word's own space ends
let timers = {};

const before = () => text.value.slice(0, text.selectionStart);

// Cut only at whole blocks, so that a text that grows keeps its beginning, which the service knows already.
const recent = (string) =>
  string.slice(Math.max(0, Math.floor(string.length / BLOCK) - 1) * BLOCK).replace(/^[\udc00-\udfff]/, "");

// The word at the end of a text, as far as it is typed. The browser parts words from emoji and other characters. Its parts
// are joined (well-known) and cut (3.14) where the definition above differs.
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

// The rest of a word that is typed, from the text behind it.
function rest(partial, after) {
  if (!partial) return "";
  const [word] = (partial + after.slice(0, TAIL)).match(WORD) ?? [""];
  return word.slice(partial.length);
}

// A text cut into what is sent; the partial word in Unicode NFC, as all suggestions are.
function split(written) {
  const partial = unfinished(written);
  const text = written.slice(0, written.length - partial.length);
  return { text: recent(text), partial: partial.normalize("NFC"), start: text.length };
}

// The number of a suggestion's characters that are typed already, and whether all that is typed is among them.
function match(word, partial) {
  const plain = PLAIN.reduce((typed, [from, to]) => typed.replace(from, to), partial).toLowerCase();
  let length = 0;
  while (length < plain.length && word[length]?.toLowerCase() === plain[length]) length++;
  if (/[\udc00-\udfff]/.test(word[length])) length--; // a character is not cut
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
    const answer = await question(split(written), controller.signal, own);
    if (number !== sequence) return;
    show(answer, written, performance.now() - started);
    if (pressed) return choose(pressed);
    if (own.trim()) timers.compare = setTimeout(() => compare(answer, written), COMPARE_AFTER);
  } catch (error) {
    if (number === sequence) fail(error);
  }
}

// What the own text changes is told when the typing rests: it takes a question more, the same without that text.
async function compare(answer, written) {
  const { signal } = controller;
  const usual = await question(split(written), signal).catch(() => undefined);
  if (usual && !signal.aborted) mark(answer, usual);
}

async function question({ text, partial }, signal, history) {
  if (partial.length > 100) return { words: [] };
  const k = COUNT + (partial ? 1 : 0); // the word itself may be among them, if it is typed whole
  const response = await fetch("v1/next-words", {
    method: "POST",
    headers: { "content-type": "application/json", "x-session": SESSION },
    body: JSON.stringify({ text, partial, history, k, max_words: MAX_WORDS, emoji: emoji.checked }),
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
  const known = answer.words.length > 0;
  const whole = partial && !rest(partial, text.value.slice(text.selectionEnd));
  finished = whole && answer.words[0]?.word === partial;
  if (whole) answer.words = answer.words.filter(({ word }) => word !== partial); // a blank does the same
  answer.words = answer.words.slice(0, COUNT);
  words.replaceChildren(...answer.words.map((word, index) => suggestion(word, index, partial)));
  haunt(finished ? "" : answer.words[0]?.word);
  effect.textContent = "";
  say(known ? "" : `No word that begins with “${partial}” is known.`);
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

// The grey text after the caret: the first suggestion, as far as it is not typed. Without one, what is left of the last.
let promised = ""; // the text up to the end of the grey text
function haunt(word) {
  const written = before();
  const atEnd = written && written.length === text.value.length;
  if (word !== undefined && atEnd) {
    const { partial, start } = split(written);
    const { length, whole } = match(word, partial);
    promised = whole ? written + lead(written.slice(0, start)) + word.slice(length) : "";
  } else if (word !== undefined || !promised.startsWith(written)) {
    promised = "";
  }
  mirror.firstChild.textContent = written;
  ghost.textContent = atEnd ? promised.slice(written.length) : "";
  mirror.scrollTop = text.scrollTop;
}

function suggestion({ word, share }, index, partial) {
  const item = template.content.cloneNode(true);
  const { length } = match(word, partial);
  const percent = 100 * share;
  const number = percent < 0.1 ? "< 0.1" : percent.toFixed(percent < 10 ? 1 : 0);
  const button = item.querySelector("button");
  button.setAttribute("aria-label", `${word}, ${number} percent`);
  button.dataset.word = word;
  button.title = partial
    ? `Of the words that begin with “${partial}”, this one comes with a probability of ${number} %`
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
  if (notice.textContent !== message) notice.textContent = message; // said aloud at each change
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

// A word goes in with one space on either side, none of them doubled. It replaces the whole word around the caret.
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
  if (event.key === "Tab") return event.shiftKey ? 0 : TAB;
  return digits.checked && /^[1-5]$/.test(event.key) && /(^|\s)$/.test(before()) ? Number(event.key) : 0;
}

// Tab takes the first suggestion, but leaves a word as it is typed where that is the likeliest.
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
text.addEventListener("input", () => ask());
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
// Copied by the editor, as the clipboard itself is closed to pages without HTTPS.
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
// Cleared through the editor, so that undo takes it back.
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
ask();
