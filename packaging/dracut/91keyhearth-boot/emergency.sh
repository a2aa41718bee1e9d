#!/bin/sh
# Runs before a shell would: whatever failed, and whatever the kernel's command line says, there is none.

echo "keyhearth: the start of this machine failed or was interrupted; it halts, without a shell." >&2
keyhearth-boot-stop
