-- compiled.lua: what the JIT compiler makes traces of: a loop, recursion,
-- functions inlined into a loop, side traces, a C call and allocation from
-- machine code.

local bit = require "bit"
local ffi = require "ffi"

ffi.cdef [[
unsigned long crc32(unsigned long crc, const unsigned char *data, unsigned int length);
]]

local bxor, rol = bit.bxor, bit.rol

local M = {}

local function jit_hot_loop(rounds)
    local x = 0
    for i = 1, rounds do
        x = bxor(rol(x, 5), i)
    end
    return x
end

function M.jit_hot_loop_entry()
    local x = jit_hot_loop(300000)
    return x
end

local function jit_recursion_step(n)
    if n < 2 then
        return n
    end
    return jit_recursion_step(n - 1) + jit_recursion_step(n - 2)
end

function M.jit_recursion_entry()
    local x = jit_recursion_step(23)
    return x
end

-- Neither is called from machine code: both end up inside the caller's trace.
local function jit_inlined_leaf(x, i)
    x = bxor(rol(x, 5), i)
    x = bxor(rol(x, 7), i)
    x = bxor(rol(x, 11), i)
    return x
end

local function jit_inlined_middle(x, i)
    x = jit_inlined_leaf(x, i)
    x = bxor(rol(x, 13), i)
    x = bxor(rol(x, 17), i)
    return x
end

local function jit_inlining_loop(rounds)
    local x = 0
    for i = 1, rounds do
        x = jit_inlined_middle(x, i)
    end
    return x
end

function M.jit_inline_entry()
    local x = jit_inlining_loop(100000)
    return x
end

local function jit_branching_loop(rounds)
    local x, y, z = 0, 0, 0
    for i = 1, rounds do
        local way = i % 3
        if way == 0 then
            x = bxor(rol(x, 5), i)
        elseif way == 1 then
            y = bxor(rol(y, 7), i)
        else
            z = bxor(rol(z, 11), i)
        end
    end
    return x + y + z
end

function M.jit_branches_entry()
    local x = jit_branching_loop(100000)
    return x
end

local bytes = ffi.new("unsigned char[4096]")

local function jit_crc_loop(rounds)
    local crc = ffi.C.crc32(0, nil, 0)
    for _ = 1, rounds do
        crc = ffi.C.crc32(crc, bytes, 4096)
    end
    return crc
end

function M.jit_ffi_entry()
    local crc = jit_crc_loop(500)
    return crc
end

local function jit_garbage_loop(rounds)
    local last = { previous = 0, index = 0 }
    for i = 1, rounds do
        last = { previous = last.index, index = i }
    end
    return last
end

function M.jit_garbage_entry()
    local last = jit_garbage_loop(5000)
    return last
end

return M
