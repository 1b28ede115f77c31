-- The same as echo.lua, written in Lua.
device {
    type = "cdc_acm",
    speed = "high",
    idVendor = 0x1209,
    idProduct = 0x000a,
    manufacturer = "usbip-testbench",
    product = "Echo in Lua",
}

function on_data(bytes)
    write(bytes)
end
