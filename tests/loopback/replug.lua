-- An echo that pulls its own plug when it is told to, and comes back.
device {
    type = "cdc_acm",
    idVendor = 0x1209,
    idProduct = 0x0003,
    product = "Replug",
    serial = "R-1",
}

function on_data(bytes)
    if bytes == "unplug" then
        unplug(100)
    elseif bytes == "unplug later" then
        after(300, function() unplug(100) end)
    else
        write(bytes)
    end
end
