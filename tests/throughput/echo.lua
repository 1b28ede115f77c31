-- Sends every byte back, without Lua. The tests ping, pipeline, echo and serial use it.
device {
    type = "cdc_acm",
    speed = "high",
    idVendor = 0x1209,
    idProduct = 0x000a,
    manufacturer = "usbip-testbench",
    product = "Echo",
    behaviour = "echo",
}
