-- calls.lua: the ways one Lua function calls another, all kept in the
-- interpreter: recursion, 200 frames deep, pcall and xpcall with real errors,
-- variable arguments, tail calls.

jit.off(true, true)

local M = {}

local recursion_outer

local function recursion_inner(depth)
    local x = depth
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    if depth > 1 then
        x = x + recursion_outer(depth - 1)
    end
    return x
end

function recursion_outer(depth)
    local x = recursion_inner(depth)
    return x + 1
end

function M.recursion_entry()
    local x = recursion_outer(6)
    return x
end

-- The deepest of the 200 does the work: most samples carry the whole chain.
local function deep_recursion_step(depth)
    local x = depth
    if depth > 1 then
        x = x + deep_recursion_step(depth - 1)
    else
        for i = 1, 20000 do
            x = (x * 3 + i) % 65536
        end
    end
    return x
end

function M.deep_recursion_entry()
    local x = deep_recursion_step(200)
    return x
end

local function pcall_guarded_body(fails)
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    if fails then
        error("expected: raised to exercise pcall")
    end
    return x
end

function M.pcall_entry()
    local ok = pcall(pcall_guarded_body, false)
    local failed = pcall(pcall_guarded_body, true)
    assert(ok and not failed)
end

-- Runs on top of the stack that failed: xpcall_body is still below it.
local function xpcall_handler(message)
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return message
end

local function xpcall_body()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    error("expected: raised to exercise xpcall")
end

function M.xpcall_entry()
    local ok = xpcall(xpcall_body, xpcall_handler)
    assert(not ok)
end

local function vararg_sum(...)
    local x = 0
    for round = 1, 600 do
        for i = 1, select("#", ...) do
            x = (x + (select(i, ...)) + round) % 65536
        end
    end
    return x
end

function M.vararg_entry()
    local x = vararg_sum(1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
    return x
end

local function tail_call_target(x)
    for i = 1, 20000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

-- Never in a stack: its frame is gone when the target runs.
local function tail_call_vanishing(x)
    return tail_call_target(x)
end

function M.tail_call_entry()
    local x = tail_call_vanishing(1)
    return x
end

return M
