#!/bin/sh
# The mutations of the emulator name places in its sources: all of them are still there.
set -eu

exec python3 tests/conformance/mutate.py --check
