-- What the host's threads run: host.c calls these globals by name.

local function fib(n)
    if n < 2 then return n end
    return fib(n - 1) + fib(n - 2)
end

local point = setmetatable({}, {
    __add = function(a, b) return fib(3) end,
    __index = function(_, key) return #key end,
})

local function sorted()
    local list = {}
    for i = 1, 50 do list[i] = i * 7919 % 101 end
    table.sort(list, function(a, b) return a < b end)
    return list[1]
end

local function interpreted_work()
    fib(12)
    sorted()
    pcall(function() error("caught") end)
    string.gsub("a b c d", "%w", function(word) return word:upper() end)
    local generate = coroutine.wrap(function() for i = 1, 10 do coroutine.yield(i) end end)
    for _ = 1, 10 do generate() end
    return point + point, point.length, select("#", 1, 2, 3), table.concat({ "a", "b" })
end

function interpreted()
    for _ = 1, 20 do interpreted_work() end
end

-- This file's functions stay in the interpreter; another chunk's are compiled.
jit.off(true, true)
compiled = assert(loadstring([[
    local function plus(a, b) return a + b end
    local function times(a, b) return plus(a * b % 65536, 1) end
    return function()
        local x = 1
        for i = 1, 200000 do x = times(x, i) end
        return x
    end
]], "=compiled"))()

function yielding(run)
    for _ = 1, 3 do
        run()
        coroutine.yield()
    end
end
