-- timer.lua: a chain of timers, one in each worker, that works a little every
-- 20 ms whether or not there are requests. TIMER_TICK=off in the container's
-- environment leaves it out, for tests that need a worker which does nothing.

jit.off(true, true)

local M = {}

local function timer_tick_body(premature)
    if premature then
        return
    end
    local x = 0
    for i = 1, 20000 do
        x = (x * 3 + i) % 65536
    end
    assert(ngx.timer.at(0.02, M.timer_tick_body))
end

M.timer_tick_body = timer_tick_body

function M.start_timer_chain()
    if os.getenv("TIMER_TICK") ~= "off" then
        assert(ngx.timer.at(0.02, timer_tick_body))
    end
end

return M
