-- An FT2232H, whose two ports send every byte back.
device {
    type = "ftdi",
    chip = "ft2232h",
    manufacturer = "usbip-testbench",
    product = "Echo",
    serial = "1",
}

function on_data(bytes, port)
    port:write(bytes)
end
