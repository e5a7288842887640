-- waiting.lua: requests that wait: on a timer, a socket, a subrequest (all three
-- give the worker back), and on a C call that blocks the whole worker.

local ffi = require "ffi"

ffi.cdef [[
int usleep(unsigned int microseconds);
]]

local M = {}

function M.sleep_entry()
    ngx.sleep(0.005)
end

function M.socket_entry()
    local socket = ngx.socket.tcp()
    socket:settimeouts(1000, 1000, 1000)
    assert(socket:connect("127.0.0.1", 8081))
    assert(socket:send("GET / HTTP/1.1\r\nHost: backend\r\n\r\n"))
    assert(socket:receive("*l"))
    assert(socket:close())
end

function M.subrequest_entry()
    local answer = ngx.location.capture("/healthz")
    assert(answer.status == 200)
end

local function blocking_sleeper()
    ffi.C.usleep(1000)
end

function M.blocking_entry()
    blocking_sleeper()
end

return M
