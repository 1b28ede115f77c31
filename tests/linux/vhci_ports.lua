-- The device that vhci_ports_test.sh has Linux attach to: it logs what it is told, and of which port;
-- sends every byte back, but says which port it is when it is asked; and its modem lines follow the
-- host's control lines of the same port as if through a null modem cable.
device { type = "ftdi", chip = "ft2232h", product = "Two ports", serial = "G-1" }

function on_open(port) log("open", port) end

function on_close(port) log("close", port) end

function on_line_coding(coding, port) log("coding", coding.text, port) end

function on_control_lines(dtr, rts, port)
    log("lines", dtr, rts, port)
    port:set_modem { dcd = dtr, dsr = dtr, cts = rts }
end

function on_break(what, port) log("break", what, port) end

function on_data(bytes, port) port:write(bytes == "who" and tostring(port) or bytes) end

function on_control(request)
    if request.bmRequestType == 0x40 and request.bRequest == 9 then -- the latency timer
        log("latency", request.wValue, ports[request.wIndex])
    end
end
