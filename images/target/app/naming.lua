-- naming.lua: one function for each way to define one, since a function's name is
-- read from the source line it is defined on. Kept in the interpreter.

jit.off(true, true)

local Styles = { inner = {} }

local function style_local_function(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

local style_local_assigned = function(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function style_global_function(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function Styles.style_dotted_function(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function Styles:style_colon_method(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

Styles.style_field_assigned = function(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

Styles["style_bracket_assigned"] = function(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

function Styles.inner.style_nested_path(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

local constructed = {
    style_table_field = function(x)
        for i = 1, 2000 do
            x = (x * 3 + i) % 65536
        end
        return x
    end,
    ["style_bracket_field"] = function(x)
        for i = 1, 2000 do
            x = (x * 3 + i) % 65536
        end
        return x
    end,
}

local
function style_name_on_next_line(x)
    for i = 1, 2000 do
        x = (x * 3 + i) % 65536
    end
    return x
end

local style_value_on_next_line =
    function(x)
        for i = 1, 2000 do
            x = (x * 3 + i) % 65536
        end
        return x
    end

-- The line alone cannot tell these two apart.
local function style_line_first(x) for i = 1, 2000 do x = (x * 3 + i) % 65536 end return x end local function style_line_second(x) for i = 1, 2000 do x = (x * 5 + i) % 65536 end return x end

-- Every closure of one prototype is the same function.
local function style_closure_maker(step)
    return function(x)
        for i = 1, 2000 do
            x = (x * 3 + i + step) % 65536
        end
        return x
    end
end

local closure = style_closure_maker(7)

function Styles.naming_entry()
    local x = style_local_function(1)
    x = style_local_assigned(x)
    x = style_global_function(x)
    x = Styles.style_dotted_function(x)
    x = Styles:style_colon_method(x)
    x = Styles.style_field_assigned(x)
    x = Styles.style_bracket_assigned(x)
    x = Styles.inner.style_nested_path(x)
    x = constructed.style_table_field(x)
    x = constructed.style_bracket_field(x)
    x = style_name_on_next_line(x)
    x = style_value_on_next_line(x)
    x = style_line_first(x)
    x = style_line_second(x)
    x = closure(x)
    x = (function(y)
        for i = 1, 2000 do
            y = (y * 3 + i) % 65536
        end
        return y
    end)(x)
    return x
end

return Styles
