#!/bin/sh
# Opens the encrypted volumes with keys that the server releases on evidence, or halts the machine.

# Who may have a shell between the release and the start of the system has what was released.
for word in $(cat /proc/cmdline); do
	case $word in
	rd.break | rd.break=* | rdbreak | rdbreak=* | init=* | rdinit=*)
		echo "keyhearth: the kernel's command line has '$word', which could undo what was attested; the machine halts. Remove it." >&2
		exec keyhearth-boot-stop
		;;
	esac
done

modprobe -q dm_crypt
modprobe -q configfs
modprobe -q sev-guest
modprobe -q tdx-guest
[ -d /sys/kernel/config/tsm ] || mount -t configfs configfs /sys/kernel/config 2>/dev/null
[ -d /sys/kernel/security/tpm0 ] || mount -t securityfs securityfs /sys/kernel/security 2>/dev/null

# What systemd-networkd learned of name servers; others write /etc/resolv.conf themselves.
if [ ! -s /etc/resolv.conf ]; then
	for server in $(sed -n 's/^DNS=//p' /run/systemd/netif/state 2>/dev/null); do
		echo "nameserver $server"
	done >/etc/resolv.conf
fi

keyhearth-boot open || exec keyhearth-boot-stop
: >/run/keyhearth-boot-opened
