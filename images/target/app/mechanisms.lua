-- mechanisms.lua: which URL exercises which mechanism. Every entry burns between
-- 0.2 and 2 ms of CPU inside functions whose names occur nowhere else; /mix runs
-- them all once, and is the load of the demo.

local callbacks = require "callbacks"
local calls = require "calls"
local compiled = require "compiled"
local coroutines = require "coroutines"
local libraries = require "libraries"
local loaded = require "loaded"
local naming = require "naming"
local shares_inline = require "shares_inline"
local shares_interp = require "shares_interp"
local shares_jit = require "shares_jit"
local waiting = require "waiting"

local mechanisms = {
    ["/recursion"] = calls.recursion_entry,
    ["/deep"] = calls.deep_recursion_entry,
    ["/pcall"] = calls.pcall_entry,
    ["/xpcall"] = calls.xpcall_entry,
    ["/vararg"] = calls.vararg_entry,
    ["/tailcall"] = calls.tail_call_entry,

    ["/sort"] = callbacks.sort_entry,
    ["/gsub"] = callbacks.gsub_entry,
    ["/meta"] = callbacks.meta_entry,
    ["/ffi/callback"] = callbacks.ffi_callback_entry,
    ["/finalizer"] = callbacks.finalizer_entry,

    ["/jit/loop"] = compiled.jit_hot_loop_entry,
    ["/jit/recursion"] = compiled.jit_recursion_entry,
    ["/jit/inline"] = compiled.jit_inline_entry,
    ["/jit/branches"] = compiled.jit_branches_entry,
    ["/jit/ffi"] = compiled.jit_ffi_entry,
    ["/jit/garbage"] = compiled.jit_garbage_entry,

    ["/coroutine"] = coroutines.coroutine_consumer,
    ["/coroutine/nested"] = coroutines.coroutine_nested_entry,
    ["/coroutine/wrap"] = coroutines.coroutine_wrap_entry,
    ["/coroutine/raw"] = coroutines.raw_coroutine_entry,
    ["/thread"] = coroutines.light_thread_entry,

    ["/ffi/call"] = libraries.ffi_call_entry,
    ["/regex"] = libraries.regex_entry,
    ["/dict"] = libraries.shared_dict_entry,
    ["/strings"] = libraries.strings_entry,
    ["/cjson"] = libraries.cjson_entry,

    ["/load"] = loaded.load_entry,
    ["/names"] = naming.naming_entry,

    ["/wait/sleep"] = waiting.sleep_entry,
    ["/wait/socket"] = waiting.socket_entry,
    ["/wait/subrequest"] = waiting.subrequest_entry,
    ["/wait/blocking"] = waiting.blocking_entry,
}

local everything = {}
for path in pairs(mechanisms) do
    everything[#everything + 1] = path
end
table.sort(everything)

mechanisms["/mix"] = function()
    for _, path in ipairs(everything) do
        mechanisms[path]()
    end
end

-- Known shares are measured alone, hence not in the mix.
mechanisms["/shares/interp"] = shares_interp.shares_entry
mechanisms["/shares/jit"] = shares_jit.shares_entry
mechanisms["/shares/inline"] = shares_inline.shares_entry
mechanisms["/shares/inline/truth"] = shares_inline.truth_entry

return mechanisms
