-- The device of the conformance suite: CDC-ACM descriptors, a third interface with an alternate
-- setting, and vendor requests by which a case says what the device shall do. The requests are in
-- stimulus.c.
local IN, OUT, NOTIFY, ALTERNATE_IN, ALTERNATE_OUT = 0x81, 0x01, 0x82, 0x83, 0x03
local SEND, NUMBERED, HALT, UNPLUG, ECHO, RECEIVED = 1, 2, 3, 4, 5, 6
local KEEP, TELL = 7, 8 -- stores data, gives them back behind the request that asks
local MAX_SAMPLES = 4096

local function endpoint(address, attributes, packet, interval)
    return string.pack("<BBBBI2B", 7, 5, address, attributes, packet, interval)
end

local function interface(number, alternate, endpoints, class, subclass, protocol)
    return string.pack("BBBBBBBBB", 9, 4, number, alternate, endpoints, class, subclass, protocol, 0)
end

local interfaces = "\x08\x0b\x00\x02\x02\x02\x00\x00" -- the first two belong together
    .. interface(0, 0, 1, 0x02, 0x02, 0x00)
    .. "\x05\x24\x00\x10\x01\x04\x24\x02\x06\x05\x24\x01\x00\x01\x05\x24\x06\x00\x01"
    .. endpoint(NOTIFY, 3, 16, 16)
    .. interface(1, 0, 2, 0x0a, 0x00, 0x00)
    .. endpoint(IN, 2, 64, 0)
    .. endpoint(OUT, 2, 64, 0)
    .. interface(2, 0, 0, 0xff, 0x00, 0x00)
    .. interface(2, 1, 2, 0xff, 0x00, 0x00)
    .. endpoint(ALTERNATE_IN, 2, 64, 0)
    .. endpoint(ALTERNATE_OUT, 2, 64, 0)

device {
    type = "raw",
    idVendor = 0x1209,
    idProduct = 0x00c0,
    bDeviceClass = 0xef,
    bDeviceSubClass = 2,
    bDeviceProtocol = 1,
    manufacturer = "usbip-testbench",
    product = "Conformance",
    serial = "C-1",
    configuration = string.pack("<BBI2BBBBB", 9, 2, 9 + #interfaces, 3, 1, 0, 0xa0, 50)
        .. interfaces,
}

local coding, echo, kept
local received = { bytes = 0, transfers = 0, checksum = 0 }

local function start()
    coding = string.pack("<I4BBB", 9600, 0, 0, 8)
    echo, kept = false, ""
    received = { bytes = 0, transfers = 0, checksum = 0 }
end
start()
on_attach = start

local function checksum(bytes)
    local sum = 0
    for i = 1, #bytes, #bytes // MAX_SAMPLES + 1 do
        sum = (sum * 31 + bytes:byte(i)) & 0xffffff
    end
    return #bytes > 0 and (sum * 31 + bytes:byte(#bytes)) & 0xffffff or 0
end

function on_transfer_out(from, bytes)
    if from == ALTERNATE_OUT then
        send(ALTERNATE_IN, bytes)
        return
    end
    received.bytes = received.bytes + #bytes
    received.transfers = received.transfers + 1
    received.checksum = (received.checksum + checksum(bytes)) & 0xffffffff
    if echo then send(IN, bytes) end
end

local vendor = {
    [SEND] = function(request) send(request.wIndex, request.data or "") end,
    [NUMBERED] = function(request)
        for number = 1, request.wValue do
            send(IN, string.pack("<I4", number) .. ("."):rep(request.wIndex - 4))
        end
    end,
    [HALT] = function(request) halt(request.wIndex) end,
    [UNPLUG] = function(request)
        after(1, function() unplug(request.wValue) end)
    end,
    [ECHO] = function(request) echo = request.wValue == 1 end,
    [RECEIVED] = function()
        local answer =
            string.pack("<I4I4I4", received.bytes, received.transfers, received.checksum)
        received = { bytes = 0, transfers = 0, checksum = 0 }
        return answer
    end,
    [KEEP] = function(request)
        kept = string.pack("<I2I2I2", request.wValue, request.wIndex, request.wLength)
            .. (request.data or "")
    end,
    [TELL] = function(request)
        return string.pack("<BBI2I2I2", request.bmRequestType, request.bRequest, request.wValue,
            request.wIndex, request.wLength) .. kept
    end,
}

function on_control(request)
    local kind = request.bmRequestType & 0x60
    if kind == 0x40 and vendor[request.bRequest] then
        return vendor[request.bRequest](request) or true
    elseif request.bmRequestType == 0x21 and request.bRequest == 0x20 and request.wLength == 7 then
        coding = request.data
        return true
    elseif request.bmRequestType == 0xa1 and request.bRequest == 0x21 then
        return coding
    elseif request.bmRequestType == 0x21 and request.bRequest == 0x22 then
        return true
    end
end
