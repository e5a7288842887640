-- fresh.lua: the content handler of /fresh_vm, where the code cache is off: every
-- request has a VM of its own, which loads this file and is closed afterwards.

local function fresh_vm_work()
    local x = 0
    for i = 1, 20000 do
        x = (x * 3 + i) % 65536
    end
    return x
end
jit.off(fresh_vm_work)

fresh_vm_work()
ngx.say("ok")
