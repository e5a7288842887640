-- coroutines.lua: Lua that runs on a stack of its own. ngx_lua replaces the
-- functions of `coroutine` inside a request, so that a resume goes through its
-- scheduler and the parent is on no C stack; the standard ones stay reachable
-- under a leading underscore and do nest on the C stack. Kept in the interpreter.

jit.off(true, true)

local M = {}

local function coroutine_body_generator(rounds)
    for round = 1, rounds do
        local x = round
        for i = 1, 5000 do
            x = (x * 3 + i) % 65536
        end
        coroutine.yield(x)
    end
end

function M.coroutine_consumer()
    local body = coroutine.create(coroutine_body_generator)
    for _ = 1, 4 do
        assert(coroutine.resume(body, 4))
    end
end

local function coroutine_nested_inner()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    coroutine.yield(x)
end

local function coroutine_nested_outer()
    local inner = coroutine.create(coroutine_nested_inner)
    local _, x = coroutine.resume(inner)
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.coroutine_nested_entry()
    local outer = coroutine.create(coroutine_nested_outer)
    assert(coroutine.resume(outer))
end

local function wrapped_coroutine_body(rounds)
    for _ = 1, rounds do
        local x = 0
        for i = 1, 5000 do
            x = (x * 3 + i) % 65536
        end
        coroutine.yield(x)
    end
end

function M.coroutine_wrap_entry()
    local next_value = coroutine.wrap(wrapped_coroutine_body)
    for _ = 1, 4 do
        assert(next_value(4))
    end
end

local create, resume, yield = coroutine._create, coroutine._resume, coroutine._yield

local function raw_coroutine_inner()
    local x = 0
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    yield(x)
end

local function raw_coroutine_body()
    local inner = create(raw_coroutine_inner)
    local _, x = resume(inner)
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.raw_coroutine_entry()
    local body = create(raw_coroutine_body)
    assert(resume(body))
end

local function light_thread_body(x)
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    ngx.sleep(0.001)
    for i = 1, 10000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function M.light_thread_entry()
    local first = ngx.thread.spawn(light_thread_body, 1)
    local second = ngx.thread.spawn(light_thread_body, 2)
    assert(ngx.thread.wait(first))
    assert(ngx.thread.wait(second))
end

return M
