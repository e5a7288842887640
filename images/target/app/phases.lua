-- phases.lua: one function for each phase in which ngx_lua runs code. Kept in
-- the interpreter.

-- Debian 11 has no lua-resty-core: there /balancer fails and the rest works.
local has_balancer, balancer = pcall(require, "ngx.balancer")

jit.off(true, true)

local M = {}

function M.init_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.set_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.rewrite_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.access_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.content_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.balancer_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    assert(has_balancer and balancer.set_current_peer("127.0.0.1", 8081))
end

function M.header_filter_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.body_filter_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.log_phase_work()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

return M
