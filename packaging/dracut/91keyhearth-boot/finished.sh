#!/bin/sh
# Nobody else's volume lets the machine go on.

[ -e /run/keyhearth-boot-opened ]
