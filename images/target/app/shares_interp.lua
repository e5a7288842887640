-- shares_interp.lua: four functions that take 10, 20, 30 and 40 % of the time by
-- doing the same work 1, 2, 3 and 4 times, in the interpreter. A profile that is
-- right says so.

jit.off(true, true)

local M = {}

local UNIT = 10000

local function share_10()
    local x = 0
    for i = 1, 1 * UNIT do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function share_20()
    local x = 0
    for i = 1, 2 * UNIT do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function share_30()
    local x = 0
    for i = 1, 3 * UNIT do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function share_40()
    local x = 0
    for i = 1, 4 * UNIT do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.shares_entry()
    local x = share_10()
    x = x + share_20()
    x = x + share_30()
    x = x + share_40()
    return x
end

return M
