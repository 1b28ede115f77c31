device { type = "cdc_acm", paced = true, product = "Paced" }

require("paced_far_end")
