-- A modem with a SIM card: AT commands as a dialogue.
device {
    type = "cdc_acm",
    idVendor = 0x1209,
    idProduct = 0x0002,
    manufacturer = "usbip-testbench",
    product = "Modem",
    serial = "356938035643809",
    line_end = "\r",
}

local echo = true
local settings = {} -- what AT+NAME=VALUE has set

local function answer(text)
    write("\r\n" .. text .. "\r\n")
end

-- Online: what comes is sent back, until "+++" is alone for half a second.
local function call(number)
    sleep(200) -- it rings
    set_modem { dcd = true }
    answer("CONNECT 115200")
    log("online with", number)
    repeat
        local bytes = expect("^%+%+%+$", 500) or read(1)
        if bytes ~= "+++" then write(bytes) end
    until bytes == "+++"
    return "OK"
end

local function hang_up()
    set_modem { dcd = false }
    return "OK"
end

-- A command after "AT", with what matched in its pattern. Returns the final result.
local commands = {
    { "^$", function() return "OK" end },
    { "^E([01])$", function(on) echo = on == "1" return "OK" end },
    { "^I$", function() answer("usbip-testbench modem") return "OK" end },
    { "^%+CSQ$", function() answer("+CSQ: " .. random(10, 31) .. ",99") return "OK" end },
    { "^%+(%u+)%?$", function(name)
        answer("+" .. name .. ": " .. (settings[name] or "0"))
        return "OK"
    end },
    { "^%+(%u+)=(.*)$", function(name, value) settings[name] = value return "OK" end },
    { "^DT?([%d*#]+);?$", call },
    { "^H0?$", hang_up },
}

local function run(command)
    for _, entry in ipairs(commands) do
        local matched = table.pack(command:match(entry[1]))
        if matched[1] then return entry[2](table.unpack(matched)) end
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
