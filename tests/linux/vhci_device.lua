-- The device that vhci_test.sh has Linux attach to, all but its `device {}`: it logs what it is told,
-- sends every byte back, and its modem lines follow the host's control lines as if through a null
-- modem cable: DTR comes back as DCD and DSR, RTS as CTS.

function on_open() log("open") end

function on_close() log("close") end

function on_line_coding(coding) log("coding", coding.text) end

function on_control_lines(dtr, rts)
    log("lines", dtr, rts)
    set_modem { dcd = dtr, dsr = dtr, cts = rts }
end

function on_break(what) log("break", what) end

function on_data(bytes) write(bytes) end
