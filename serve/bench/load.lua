-- What wrk sends. Run as many threads as connections, so that each connection has a Lua state of its own.
-- Arguments: the file of texts (see text.py), "typing" or "unrelated", words a context, words a session, seed.
--
-- typing: behind its opening each connection types a session's words, each request one word longer than the last;
--   then it goes back to the opening and types other words.
-- unrelated: each request is the given number of words from a random place.

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

local typing, length, session, opening, text, content, typed, place
local headers = { ["Content-Type"] = "application/json" }

function init(args)
  typing, length, session = args[2] == "typing", tonumber(args[3]), tonumber(args[4])
  math.randomseed(tonumber(args[5]) * 1000 + number)
  local line = 0
  for each in io.lines(args[1]) do
    line = line + 1
    if line == number then opening = each end
    content = each
  end
  typed = session
end

-- A random place after a space, with enough words behind it: none has 100 letters.
local function jump()
  local last = #content - 100 * (typing and session or length)
  place = content:find(" ", math.random(1, last), true) + 1
end

-- The next `count` words.
local function read(count)
  local start, stop = place, place - 1
  for _ = 1, count do stop = content:find(" ", stop + 1, true) end
  place = stop + 1
  return content:sub(start, stop - 1)
end

function request()
  if not typing then
    jump()
    text = read(length)
  elseif typed == session then
    jump()
    text, typed = opening, 0
  else
    text, typed = text .. " " .. read(1), typed + 1
  end
  return wrk.format("POST", nil, headers, '{"text": "' .. text .. '", "k": 5}')
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests": %d, "seconds": %.6f, "p50": %.3f, "p99": %.3f, "refused": %d, "broken": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
