-- Sends as much as it is asked for, without Lua. The test in uses it.
device {
    type = "raw",
    speed = "high",
    idVendor = 0x1209,
    idProduct = 0x000c,
    manufacturer = "usbip-testbench",
    product = "Source",
    behaviour = "source",
    configuration = "\x09\x02\x20\x00\x01\x01\x00\x80\x32" -- 32 bytes, 1 interface
        .. "\x09\x04\x00\x00\x02\xff\x00\x00\x00"          -- interface 0, vendor specific
        .. "\x07\x05\x01\x02\x00\x02\x00"                  -- bulk OUT 0x01, 512 bytes
        .. "\x07\x05\x81\x02\x00\x02\x00",                 -- bulk IN 0x81, 512 bytes
}
