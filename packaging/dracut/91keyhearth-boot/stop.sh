#!/bin/sh
# Halts, in one of several ways: what waits for ever has no prompt either.
halt -f -f
echo o >/proc/sysrq-trigger
while :; do sleep 3600; done
