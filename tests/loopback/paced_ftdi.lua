device { type = "ftdi", paced = true, product = "Paced" }

require("paced_far_end")
