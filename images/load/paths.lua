-- paths.lua: a wrk script. Asks for the given paths in turn, stops after a number
-- of answers even when time is left, and fails if any answer was not a good one.
--
--   wrk -s paths.lua … http://127.0.0.1:8080 -- COUNT PATH…

local requests, paths = {}, {}
local sent, received, limit = 0, 0, 0

function init(args)
    limit = assert(tonumber(args[1]), "how many answers at most?")
    for i = 2, #args do
        paths[#paths + 1] = args[i]
    end
    assert(#paths > 0, "which paths?")
    for i, path in ipairs(paths) do
        requests[i] = wrk.format("GET", path)
    end
end

function request()
    sent = sent + 1
    return requests[sent % #requests + 1]
end

function response()
    received = received + 1
    if received >= limit then
        wrk.thread:stop()
    end
end

function done(summary)
    local errors = summary.errors
    local bad = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(string.format("%d answers, %d bad", summary.requests, bad))
    os.exit((bad == 0 and summary.requests > 0) and 0 or 1)
end
