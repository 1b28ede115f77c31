-- What is at the other end of both paced lines: it sends BYTES after a "g", and a "." when it has got
-- as many of anything else.
local BYTES = 5760
local missing = BYTES

function on_data(bytes)
    if bytes == "g" then
        write(string.rep("x", BYTES))
        return
    end
    missing = missing - #bytes
    if missing == 0 then
        write(".")
        missing = BYTES
    end
end
