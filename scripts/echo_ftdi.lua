-- An FT232R that sends every byte back.
device {
    type = "ftdi",
    idVendor = 0x0403,
    idProduct = 0x6001,
    manufacturer = "usbip-testbench",
    product = "Echo",
    serial = "1",
}

function on_data(bytes)
    write(bytes)
end
