-- worker_thread.lua: what /thread_vm runs by ngx.run_worker_thread, on a thread of
-- its own and in a VM of its own, which is kept for the next request. No symbol
-- leads to that VM, and it has no API of nginx.

local M = {}

local function worker_thread_inner(n)
    local x = 0
    for i = 1, n do
        x = (x * 3 + i) % 65536
    end
    return x
end
jit.off(worker_thread_inner)

local function worker_thread_hot_loop(n)
    local x = 0
    for i = 1, n do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.worker_thread_entry()
    local x = worker_thread_inner(40000)
    return x + worker_thread_hot_loop(200000)
end
jit.off(M.worker_thread_entry)

return M
