-- The other device of the conformance suite: an echo behind the CDC-ACM function. It takes no more
-- when the host does not read, which a raw device cannot do.
device {
    type = "cdc_acm",
    idVendor = 0x1209,
    idProduct = 0x00c1,
    product = "Conformance echo",
    serial = "C-2",
}

function on_data(bytes)
    write(bytes)
end
