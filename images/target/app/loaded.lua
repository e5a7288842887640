-- loaded.lua: a chunk made by load() without a name. Its chunk name is its whole
-- source text, with the semicolons and line ends that a folded stack must not
-- contain.

local M = {}

local source = [[
local function loaded_chunk_inner(n) local x = 0; for i = 1, n do x = (x * 3 + i) % 65536 end; return x end
local result = loaded_chunk_inner(...); for i = 1, 10000 do result = (result * 3 + i) % 65536 end
return result
]]

local chunk = assert(load(source))
jit.off(chunk, true)

function M.load_entry()
    local x = chunk(10000)
    return x
end

return M
