-- truth.lua: what Lua itself says of its worker, for tests that compare it with
-- what upprof reads from outside; and ways to bring a worker into a known state.

local cjson = require "cjson"
local ffi = require "ffi"

-- Without lua-resty-core (Debian 11) a dictionary has no such methods, but the
-- functions they call are there.
ffi.cdef [[
size_t ngx_http_lua_ffi_shdict_capacity(void *zone);
size_t ngx_http_lua_ffi_shdict_free_space(void *zone);
void *ngx_http_lua_ffi_shdict_udata_to_zone(void *zone_udata);
]]

local M = {}

local function number_of(dict, method)
    if dict[method] then
        return tonumber(dict[method](dict))
    end
    return tonumber(ffi.C["ngx_http_lua_ffi_shdict_" .. method](dict[1]))
end

-- One line of JSON about this worker.
function M.tell()
    local dicts = {}
    for name, dict in pairs(ngx.shared) do
        dicts[name] = {
            capacity = number_of(dict, "capacity"),
            free_space = number_of(dict, "free_space"),
            keys = #dict:get_keys(0),
        }
    end
    ngx.say(cjson.encode {
        pid = ngx.worker.pid(),
        pending = ngx.timer.pending_count(),
        running = ngx.timer.running_count(),
        dicts = dicts,
    })
end

local function sleep_long(premature)
    if not premature then
        ngx.sleep(3600)
    end
end

local function do_nothing() end

-- Adds timers: /truth/timers?pending=5&running=3
function M.make_timers()
    local arguments = ngx.req.get_uri_args()
    for _ = 1, tonumber(arguments.pending) do
        assert(ngx.timer.at(3600, do_nothing))
    end
    for _ = 1, tonumber(arguments.running) do
        assert(ngx.timer.at(0, sleep_long))
    end
    ngx.say(ngx.worker.pid())
end

-- Fills the dictionary `truth` with entries of every kind.
function M.fill()
    local dict = ngx.shared.truth
    dict:flush_all()
    dict:flush_expired()
    for i = 1, 100 do
        assert(dict:safe_set("forever " .. i, ("x"):rep(i)))
    end
    for i = 1, 50 do
        assert(dict:safe_set("an hour " .. i, i * 1.5, 3600))
    end
    for i = 1, 7 do
        assert(dict:safe_set("gone " .. i, true, 0.001))
    end
    assert(dict:lpush("a list", "one"))
    assert(dict:lpush("a list", "two"))
    assert(dict:set("the largest", ("y"):rep(5000)))
    ngx.sleep(0.1)
    dict:get("forever 1")
    ngx.say("ok")
end

-- Fills it until there is no room: each failure is one that nginx counts.
function M.overflow()
    local failed = 0
    for i = 1, 20000 do
        local ok = ngx.shared.truth:safe_set("filling " .. i, ("z"):rep(100))
        if not ok then
            failed = failed + 1
        end
    end
    ngx.say(failed)
end

-- One connection to the plain server, used three times and then kept in a pool for seven.
function M.keep_socket()
    for _ = 1, 3 do
        local socket = ngx.socket.tcp()
        assert(socket:connect("127.0.0.1", 8081))
        assert(socket:send("GET / HTTP/1.1\r\nHost: backend\r\n\r\n"))
        repeat
            local line = assert(socket:receive("*l"))
        until line == ""
        assert(socket:receive(3) == "ok\n")
        assert(socket:setkeepalive(3600000, 7))
    end
    ngx.say("ok")
end

-- Writes into the lock of the dictionary `truth` what nginx writes: the holder's pid (ngx_shmtx.c), 0 for
-- nobody. The second word of an ngx_shm_zone_t is the zone's address; the lock is the first word there. In
-- old versions a dictionary holds its ngx_shm_zone_t itself. Without ?pid it is this worker that holds the
-- lock. Whoever then asks for the dictionary waits for ever: a test's last act.
function M.lock()
    local pid = tonumber(ngx.req.get_uri_args().pid) or ngx.worker.pid()
    local held = ngx.shared.truth[1]
    local known, found = pcall(function()
        return ffi.C.ngx_http_lua_ffi_shdict_udata_to_zone(held)
    end)
    local zone = ffi.cast("uintptr_t *", known and found or held)
    ffi.cast("uintptr_t *", zone[1])[0] = pid
    ngx.say(pid)
end

-- Keeps the client waiting.
function M.wait()
    ngx.sleep(3600)
end

return M
