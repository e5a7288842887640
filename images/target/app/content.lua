-- content.lua: the content handler of every mechanism's URL. It looks the path
-- up in mechanisms.lua and calls what it finds, so each Lua stack of the content
-- phase starts here.

local mechanisms = require "mechanisms"

local run = mechanisms[ngx.var.uri]
if not run then
    ngx.exit(ngx.HTTP_NOT_FOUND)
end

run()
ngx.say("ok")
