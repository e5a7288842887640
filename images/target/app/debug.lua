-- debug.lua: what a worker's VM says of itself, for tests that compare it with what
-- upprof reads from outside: /debug/ACTION?pid=PID. Another worker than PID (as the
-- container numbers it) says so and does nothing, so a test asks until the right one
-- has answered. Every answer is JSON.

local cjson = require "cjson.safe"

local M = {}

-- Everything the actions keep from one request to the next.
package.loaded.debug_kept = package.loaded.debug_kept or { held = {}, starts = {}, aborts = {} }
local kept = package.loaded.debug_kept

-- Memory only grows from here on.
function M.gc_stop()
    collectgarbage()
    collectgarbage("setpause", 173)
    collectgarbage("setstepmul", 321)
    collectgarbage("stop")
    return { count = collectgarbage("count") }
end

function M.gc_count()
    return { count = collectgarbage("count") }
end

-- n tables of four slots each in one array, and n strings.
function M.hold(args)
    local n = tonumber(args.n)
    local tables, strings = {}, {}
    for i = 1, n do
        tables[i] = { i, i, i, i }
        strings[i] = "debug string that nobody else has " .. (i + 1000000)
    end
    kept.held.tables, kept.held.strings = tables, strings
    return { count = collectgarbage("count") }
end

function M.modules()
    local names = {}
    for name, module in pairs(package.loaded) do
        local version = type(module) == "table" and (rawget(module, "_VERSION") or rawget(module, "version"))
        local kind = type(version)
        names[name] = (kind == "string" or kind == "number") and tostring(version) or false
    end
    return { modules = names }
end

-- n coroutines that wait in one line, and as many that have ended.
local function wait_here()
    coroutine.yield() -- coroutines wait here
    return 0
end

function M.coroutines(args)
    local co_create, co_resume = coroutine.__create or coroutine.create, coroutine.__resume or coroutine.resume
    kept.coroutines = {}
    for i = 1, tonumber(args.n) do
        local waits, ended = co_create(function()
            local x = wait_here()
            return x
        end), co_create(function() end)
        co_resume(ended)
        -- ngx_lua's own yield goes to nginx: this is LuaJIT's.
        co_resume(waits)
        kept.coroutines[i] = { waits, ended }
    end
    local states = {}
    for _, pair in ipairs(kept.coroutines) do
        for _, co in ipairs(pair) do
            local state = (coroutine.__status or coroutine.status)(co)
            states[state] = (states[state] or 0) + 1
        end
    end
    return { states = states }
end

-- Notes where traces start and where they are given up.
function M.attach()
    local util = require "jit.util"
    local function place(func, pc)
        local info = util.funcinfo(func, pc)
        return (info.source or "?"):gsub("^[@=]", "") .. ":" .. (info.currentline or 0)
    end
    local start
    kept.watch = function(what, number, func, pc, code)
        if what == "start" then
            start = place(func, pc)
            kept.starts[number] = start
        elseif what == "abort" then
            local all = kept.aborts[start] or {}
            all[tostring(code)] = true
            kept.aborts[start] = all
        elseif what == "flush" then
            kept.starts = {}
        end
    end
    jit.attach(kept.watch, "trace")
    jit.opt.start("hotloop=47", "maxmcode=32768")
    return {}
end

local function gives_up(n)
    local x
    for i = 1, n do -- a closure in a loop is never compiled
        x = function() return i end
    end
    return x
end

local function compiles(n)
    local x = 0
    for i = 1, n do -- this loop is compiled
        x = x + i % 7
    end
    return x
end

local function turned_off(n)
    return n
end
jit.off(turned_off)

function M.run()
    for _ = 1, 200 do
        gives_up(300)
    end
    turned_off(1)
    return { compiles(100000) }
end

function M.jit()
    jit.attach(kept.watch)
    local util = require "jit.util"
    local traces = {}
    for number = 1, 8000 do
        local info = util.traceinfo(number)
        if info then
            traces[#traces + 1] = {
                number = number,
                link = info.link,
                link_type = info.linktype,
                start = kept.starts[number],
            }
        end
    end
    local ok, vmdef = pcall(require, "jit.vmdef")
    return { on = jit.status(), traces = traces, aborts = kept.aborts, reasons = ok and vmdef.traceerr or nil }
end

-- About mb MiB of tables and strings, in a tree as caches make them.
function M.fill(args)
    local bytes = tonumber(args.mb) * 1024 * 1024
    local groups, n = {}, 0
    collectgarbage()
    while collectgarbage("count") * 1024 < bytes do
        local group = {}
        for i = 1, 1000 do
            n = n + 1
            group["entry " .. n] = { id = n, name = "a name of its own " .. n, list = { n, n + 1, n + 2 } }
        end
        groups[#groups + 1] = group
    end
    kept.filled = groups
    return { count = collectgarbage("count"), entries = n }
end
jit.off(M.fill)

-- n routes as a gateway keeps them: a table each, by id and by host and path.
function M.routes(args)
    local by_id, by_host = {}, {}
    for i = 1, tonumber(args.n) do
        local host, path = "host" .. i % 20 .. ".example", "/api/v1/service" .. i .. "/*"
        local route = {
            id = "route-" .. i,
            uri = path,
            host = host,
            methods = { "GET", "POST" },
            plugins = {
                ["limit-count"] = { count = i, time_window = 60, key = "remote_addr" },
                ["proxy-rewrite"] = { headers = { ["X-Route"] = "route-" .. i } },
            },
            upstream = {
                type = "roundrobin",
                nodes = { ["10.0.0." .. i % 250 .. ":8080"] = 1, ["10.0.1." .. i % 250 .. ":8080"] = 1 },
                timeout = { connect = 6, send = 6, read = 6 },
            },
        }
        by_id[route.id] = route
        by_host[host] = by_host[host] or {}
        by_host[host][path] = route
    end
    kept.routes = { by_id = by_id, by_host = by_host }
    return {}
end
jit.off(M.routes)

-- n entries in each dictionary that nobody else uses.
function M.dicts(args)
    for name, dict in pairs(ngx.shared) do
        if name:find("^filler_") then
            for i = 1, tonumber(args.n) do
                assert(dict:safe_set("client " .. i, "a value of some length " .. i, 3600))
            end
        end
    end
    return {}
end
jit.off(M.dicts)

-- n loops that are compiled, one trace each.
function M.traces(args)
    for i = 1, tonumber(args.n) do
        local loop = assert(loadstring("local x = 0 for i = 1, 200 do x = x + i end return x", "=loop" .. i))
        loop()
        kept.held[i] = loop
    end
    return {}
end
jit.off(M.traces)

-- What tells of traces makes none.
jit.off(M.jit)

local action = M[ngx.var.uri:match("([%w_]+)$")]
local args = ngx.req.get_uri_args()
if not action then
    ngx.exit(ngx.HTTP_NOT_FOUND)
elseif tonumber(args.pid) ~= ngx.worker.pid() then
    ngx.say(cjson.encode { other = ngx.worker.pid() })
else
    ngx.say(cjson.encode(action(args)))
end
