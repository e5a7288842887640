-- agent.lua: OpenResty's privileged agent, a process beside the workers that runs
-- timers only. PRIVILEGED_AGENT=on in the container's environment asks for one,
-- which takes an nginx that can have one (../source/static).

jit.off(true, true)

local M = {}

local function privileged_agent_work(rounds)
    local x = 0
    for i = 1, rounds do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function privileged_agent_timer(premature)
    if not premature then
        assert(ngx.timer.at(0.01, M.privileged_agent_timer))
        local x = privileged_agent_work(100000)
        return x
    end
end

M.privileged_agent_timer = privileged_agent_timer

local enabled = os.getenv("PRIVILEGED_AGENT") == "on"

-- In the master, while it reads the configuration.
function M.enable()
    if enabled then
        assert(require("ngx.process").enable_privileged_agent(64))
    end
end

function M.start_timer_chain()
    if enabled and require("ngx.process").type() == "privileged agent" then
        assert(ngx.timer.at(0, privileged_agent_timer))
    end
end

return M
