-- What wrk sends, with one thread.
-- Arguments: the file of texts (see text.py), "typing", "letters" or "unrelated", words a context, connections, words a
-- session, seed.
--
-- typing: behind its opening each session types words, each request one word longer than the last; then it goes back to
--   the opening and types other words. There are as many sessions as connections. They take turns, since wrk does not
--   tell which connection will send.
-- letters: the same, but each request has one letter more of the word in `partial`, from none to all but the last. The
--   text has the whole words. The word is the next word of the session.
-- unrelated: each request is the given number of words from a random place.

local kind, length, session, content, place
local sessions, turn = {}, 0
local headers = { ["Content-Type"] = "application/json" }

function init(args)
  local connections = tonumber(args[4])
  kind, length, session = args[2], tonumber(args[3]), tonumber(args[5])
  math.randomseed(tonumber(args[6]))
  for line in io.lines(args[1]) do
    if #sessions < connections then table.insert(sessions, { opening = line, typed = session }) end
    content = line
  end
end

-- A random place after a space, with enough words behind it: none has 100 letters.
local function jump()
  local last = #content - 100 * (kind == "unrelated" and length or session + 1)
  place = content:find(" ", math.random(1, last), true) + 1
end

-- The next `count` words.
local function read(count)
  local start, stop = place, place - 1
  for _ = 1, count do stop = content:find(" ", stop + 1, true) end
  place = stop + 1
  return content:sub(start, stop - 1)
end

-- The next text of a session. Each goes on reading where its last word was.
local function type_on(one)
  if one.typed == session then
    jump()
    one.text, one.typed = one.opening, 0
  else
    place = one.place
    one.text, one.typed = one.text .. " " .. read(1), one.typed + 1
  end
  one.place = place
  return one.text
end

-- The next text of a session, and the typed letters of the word after it.
local function type_letter(one)
  local letters = one.word and #one.letters + 1 or 0
  if not one.word or letters >= #one.word then
    type_on(one)
    one.word = read(1):match("^[%a]+")
    letters = 0
  end
  one.letters = one.word:sub(1, letters)
  return one.text, one.letters
end

function request()
  local text, letters = nil, ""
  if kind == "unrelated" then
    jump()
    text = read(length)
  else
    turn = turn % #sessions + 1
    headers["X-Session"] = "session-" .. turn
    if kind == "letters" then
      text, letters = type_letter(sessions[turn])
    else
      text = type_on(sessions[turn])
    end
  end
  local partial = letters ~= "" and '", "partial": "' .. letters or ""
  return wrk.format("POST", nil, headers, '{"text": "' .. text .. partial .. '", "k": 5}')
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
