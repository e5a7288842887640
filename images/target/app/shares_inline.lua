-- shares_inline.lua: four functions that take 10, 20, 30 and 40 % of the time by
-- doing the same step 10, 20, 30 and 40 times, all called from one loop, so that
-- the JIT compiler inlines them into one trace. A profile that is right tells them
-- apart. Each step needs the result of the one before, so that all cost the same.
-- A trace keeps where it came from at its guards: functions begin and end with a
-- comparison. A fifth function comes first and pays for carrying x around the loop,
-- which the processor does while it works on what comes next.

local bit = require "bit"
local ffi = require "ffi"

ffi.cdef [[
typedef struct { long sec; long nsec; } upprof_timespec;
int clock_gettime(int clock, upprof_timespec *now);
]]

local bxor, rol = bit.bxor, bit.rol

local M = {}

-- Results of a step that hardly ever come: each comparison is one with another
-- number than the one before, or the compiler would leave it out.
local A, B = 0x12345678, 0x23456789
local hits = 0

local function inlined_first(x, i)
    if x == A then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    return x
end

local function inlined_10(x, i)
    if x == A then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    return x
end

local function inlined_20(x, i)
    if x == A then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    return x
end

local function inlined_30(x, i)
    if x == A then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    return x
end

local function inlined_40(x, i)
    if x == A then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    x = rol(bxor(rol(bxor(x, i), 5), i), 5) if x == B then hits = hits + 1 end
    return x
end

local ROUNDS = 5000

local function inlining_loop()
    local x = 0
    for i = 1, ROUNDS do
        x = inlined_first(x, i)
        x = inlined_10(x, i)
        x = inlined_20(x, i)
        x = inlined_30(x, i)
        x = inlined_40(x, i)
    end
    return x
end

function M.shares_entry()
    local x = inlining_loop()
    return x
end

local CLOCK_THREAD_CPUTIME_ID = 3
local now = ffi.new("upprof_timespec")

local function cpu_ns()
    ffi.C.clock_gettime(CLOCK_THREAD_CPUTIME_ID, now)
    return tonumber(now.sec) * 1e9 + tonumber(now.nsec)
end

local function inlined_nothing(x)
    return x
end

-- A loop of its own for each function, so that each has a trace of its own.
local loop_source = [[
    local first, f, rounds = ...
    local x = 0
    for i = 1, rounds do
        x = first(x, i)
        x = f(x, i)
    end
    return x
]]

local functions = { inlined_nothing, inlined_10, inlined_20, inlined_30, inlined_40 }
local loops = {}
for k = 1, #functions do
    loops[k] = assert(load(loop_source, "=alone"))
end

-- What the thread's clock says: CPU nanoseconds of each function, the least of
-- some tries, without those of the loop and the first function.
function M.truth_entry()
    local least = {}
    for _ = 1, 50 do
        for k, run in ipairs(functions) do
            local from = cpu_ns()
            loops[k](inlined_first, run, ROUNDS)
            local took = cpu_ns() - from
            least[k] = math.min(least[k] or took, took)
        end
    end
    for k = 2, #least do
        least[k] = least[k] - least[1]
    end
    ngx.say(table.concat(least, " ", 2))
end

return M
