-- libraries.lua: Lua that spends its time in C: FFI calls from the interpreter,
-- regular expressions with and without PCRE's own JIT, a shared dict, the string
-- library, a C module.

local cjson = require "cjson.safe"
local ffi = require "ffi"

ffi.cdef [[
unsigned long adler32(unsigned long adler, const unsigned char *data, unsigned int length);
]]

local M = {}

local bytes = ffi.new("unsigned char[4096]")

local function ffi_adler_caller()
    local sum = 1
    for _ = 1, 300 do
        sum = ffi.C.adler32(sum, bytes, 4096)
    end
    return sum
end
jit.off(ffi_adler_caller)

function M.ffi_call_entry()
    local sum = ffi_adler_caller()
    return sum
end

-- The nested quantifiers try 2^n ways to fail before the alternative matches.
local hard_subject = string.rep("a", 14) .. "!/42"
local easier_subject = string.rep("a", 9) .. "!/42"

local function pcre_matcher()
    local from
    for _ = 1, 5 do
        from = ngx.re.find(hard_subject, [[(?:a+)+$|/(\d+)]], "jo")
    end
    return from
end
jit.off(pcre_matcher)

local function pcre_interpreted_matcher()
    local from
    for _ = 1, 5 do
        from = ngx.re.find(easier_subject, [[(?:a+)+$|/(\d+)]], "o")
    end
    return from
end
jit.off(pcre_interpreted_matcher)

local paths = string.rep("/path/to/some/42", 20)

local function pcre_gsub_callback(match)
    local x = #match[0]
    for i = 1, 200 do
        x = (x * 3 + i) % 65536
    end
    return "<" .. match[0] .. ">"
end
jit.off(pcre_gsub_callback)

function M.regex_entry()
    assert(pcre_matcher())
    assert(pcre_interpreted_matcher())
    assert(ngx.re.gsub(paths, [[\d+]], pcre_gsub_callback, "jo"))
end

local function shared_dict_counter()
    local counters = ngx.shared.counters
    for i = 1, 1000 do
        counters:incr("requests", 1, 0)
        counters:set("last", i)
    end
end
jit.off(shared_dict_counter)

function M.shared_dict_entry()
    shared_dict_counter()
end

local function string_builder()
    local parts = {}
    for i = 1, 500 do
        parts[i] = string.format("%s-%05.2f", string.rep("x", i % 50), math.sin(i))
    end
    local joined = table.concat(parts, ",")
    return joined:upper():reverse()
end
jit.off(string_builder)

function M.strings_entry()
    local built = string_builder()
    return built
end

local document = { name = "upprof", list = {} }
for i = 1, 100 do
    document.list[i] = { id = i, label = "item " .. i }
end

local function cjson_roundtrip()
    local copy
    for _ = 1, 5 do
        copy = cjson.decode(cjson.encode(document))
    end
    return copy
end
jit.off(cjson_roundtrip)

function M.cjson_entry()
    local copy = cjson_roundtrip()
    return copy
end

return M
