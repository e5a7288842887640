-- stream.lua: what the VM of the stream module runs for each connection
-- (../source/static). It has none of ngx_lua's API, and answers as HTTP does, so
-- that the load can ask for it.

local function stream_vm_inner(n)
    local x = 0
    for i = 1, n do
        x = (x * 3 + i) % 65536
    end
    return x
end
jit.off(stream_vm_inner)

local function stream_vm_coroutine_body(n)
    local x = stream_vm_inner(n)
    coroutine.yield(x)
end
jit.off(stream_vm_coroutine_body)

local function stream_vm_hot_loop(n)
    local x = 0
    for i = 1, n do
        x = (x * 3 + i) % 65536
    end
    return x
end

local function stream_vm_entry()
    local x = stream_vm_inner(20000)
    local body = coroutine.create(stream_vm_coroutine_body)
    assert(coroutine.resume(body, 20000))
    return x + stream_vm_hot_loop(200000)
end
jit.off(stream_vm_entry)

local answer = stream_vm_entry() .. "\n"
return "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: " .. #answer .. "\r\n\r\n" .. answer
