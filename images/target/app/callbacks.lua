-- callbacks.lua: Lua called back from where it is not expected: by C library
-- functions (sort, gsub), by metamethods, by C code through an FFI callback, and
-- by the garbage collector. Kept in the interpreter.

local ffi = require "ffi"

jit.off(true, true)

ffi.cdef [[
typedef int (*upprof_comparator)(const void *, const void *);
void qsort(void *base, size_t count, size_t size, upprof_comparator compare);
]]

local M = {}

local function sort_comparator_by_weight(a, b)
    local x = a.weight
    for i = 1, 50 do
        x = (x * 3 + i) % 65536
    end
    return a.weight < b.weight
end

function M.sort_entry()
    local parcels = {}
    for i = 1, 64 do
        parcels[i] = { weight = i * 37 % 101 }
    end
    table.sort(parcels, sort_comparator_by_weight)
end

local function gsub_replacer_callback(word)
    local x = #word
    for i = 1, 500 do
        x = (x * 3 + i) % 65536
    end
    return "<" .. word .. ">"
end

local text = string.rep("every good boy deserves fudge ", 8)

function M.gsub_entry()
    local replaced = string.gsub(text, "%a+", gsub_replacer_callback)
    return replaced
end

local function meta_index_handler(_, key)
    local x = key
    for i = 1, 5000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function meta_call_handler(_, x)
    for i = 1, 5000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function meta_less_handler()
    local x = 0
    for i = 1, 5000 do
        x = (x * 3 + i) % 65536
    end
    return x < 65536
end

local function meta_concat_handler()
    local x = 0
    for i = 1, 5000 do
        x = (x * 3 + i) % 65536
    end
    return "concatenated"
end

local metatable = {
    __index = meta_index_handler,
    __call = meta_call_handler,
    __lt = meta_less_handler,
    __concat = meta_concat_handler,
}

function M.meta_entry()
    local left, right = setmetatable({}, metatable), setmetatable({}, metatable)
    local indexed = left[7]
    local called = left(indexed)
    local less = left < right
    local joined = left .. right
    return called, less, joined
end

local function ffi_callback_body(a, b)
    local left = ffi.cast("const int32_t *", a)[0]
    local right = ffi.cast("const int32_t *", b)[0]
    local x = left
    for i = 1, 50 do
        x = (x * 3 + i) % 65536
    end
    return left - right
end

-- Made once: a VM has few callback slots.
local compare = ffi.cast("upprof_comparator", ffi_callback_body)

function M.ffi_callback_entry()
    local numbers = ffi.new("int32_t[64]")
    for i = 0, 63 do
        numbers[i] = i * 37 % 101
    end
    ffi.C.qsort(numbers, 64, 4, compare)
end

local function finalizer_work()
    local x = 0
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
end

local function userdata_finalizer_work()
    local x = 0
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
end

local function drop_finalizable_objects()
    for _ = 1, 5 do
        ffi.gc(ffi.new("int[1]"), finalizer_work)
        getmetatable(newproxy(true)).__gc = userdata_finalizer_work
    end
end

function M.finalizer_entry()
    drop_finalizable_objects()
    collectgarbage()
end

return M
