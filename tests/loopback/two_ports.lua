-- An FT2232H whose first port sends capital letters back and whose second sends small ones, so that
-- nothing of one can be taken for the other's.
device {
    type = "ftdi",
    chip = "ft2232h",
    serial = "P-1",
}

function on_data(bytes, port)
    port:write(port.number == 1 and bytes:upper() or bytes:lower())
    if bytes == "unplug" then unplug(100) end
end
