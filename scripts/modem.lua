-- A modem: AT commands as a dialogue.
device {
    type = "cdc_acm",
    idVendor = 0x1209,
    idProduct = 0x0002,
    manufacturer = "usbip-testbench",
    product = "Modem",
    serial = "356938035643809",
}

local echo = true
local settings = {} -- what AT+NAME=VALUE has set

local function answer(text)
    write("\r\n" .. text .. "\r\n")
end

-- Online: what comes is sent back, until "+++" comes on its own.
local function call(number)
    sleep(200) -- it rings
    set_modem { dcd = true }
    answer("CONNECT 115200")
    log("online with", number)
    while true do
        local bytes = expect(".+")
        if bytes == "+++" then return "OK" end
        write(bytes)
    end
end

local function hang_up()
    set_modem { dcd = false }
    return "OK"
end

-- What may stand behind AT. Each function gets what its pattern has captured, and returns the result.
local commands = {
    { "^$", function() return "OK" end },
    { "^E([01])$", function(on) echo = on == "1" return "OK" end },
    { "^I$", function() answer("usbip-testbench modem") return "OK" end },
    { "^%+CSQ$", function() answer("+CSQ: " .. random(10, 31) .. ",99") return "OK" end },
    { "^%+(%u+)=(.*)$", function(name, value) settings[name] = value return "OK" end },
    { "^%+(%u+)%?$", function(name) answer("+" .. name .. ": " .. (settings[name] or "")) return "OK" end },
    { "^D[TP]?([%d*#]+);?$", call },
    { "^H0?$", hang_up },
}

local function run(command)
    for _, entry in ipairs(commands) do
        local pattern, action = entry[1], entry[2]
        local captures = table.pack(command:match(pattern))
        if captures[1] then return action(table.unpack(captures)) end
    end
    return "ERROR"
end

function dialogue()
    echo = true
    while true do
        local line = read_line()
        if echo then write(line .. "\r") end
        local command = line:upper():match("^%s*AT(.*)$")
        if command then answer(run(command)) end
    end
end

function on_close()
    hang_up()
end
