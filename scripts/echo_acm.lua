-- A CDC-ACM device that sends every byte back.
device {
    type = "cdc_acm",
    idVendor = 0x1209,
    idProduct = 0x0001,
    manufacturer = "usbip-testbench",
    product = "Echo",
    serial = "1",
    out_endpoint = 0x01,
    in_endpoint = 0x81,
    interrupt_endpoint = 0x82,
}

function on_data(bytes)
    write(bytes)
end
