# shellcheck shell=dash disable=SC2154

check usbip usbip version
meet middle
say "NOTE the color is $color"
