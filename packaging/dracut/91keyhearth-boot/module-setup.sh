#!/bin/bash
# The dracut module: agent, configuration, cryptsetup, drivers, and hooks. Whatever cannot be put in ends the build: an
# initramfs without the agent would ask for a passphrase at the next start.

check() {
	[[ -e ${dracutsysrootdir-}/etc/keyhearth/boot.toml ]] || return 255
	require_binaries keyhearth-boot cryptsetup || return 1
}

depends() {
	echo dm network
}

installkernel() {
	hostonly='' instmods dm_crypt algif_skcipher =crypto configfs tsm sev-guest tdx-guest tpm_tis tpm_crb
}

# The network comes up for the agent; nothing else opens volumes; what fails ends without a shell.
cmdline() {
	echo rd.neednet=1 rd.luks=0 rd.shell=0 rd.emergency=halt
}

install() {
	local configuration=/etc/keyhearth/boot.toml file
	# Nothing else of /etc/keyhearth: an initramfs is not the place for what an operator keeps there.
	for file in "$configuration" "$(sed -n 's/^ca *= *"\(.*\)" *$/\1/p' "${dracutsysrootdir-}$configuration")"; do
		[[ -n $file ]] && inst_simple "$file" && continue
		dfatal "keyhearth-boot: the CA that $configuration names is missing: '$file'. Put it there, or correct 'ca'."
		exit 1
	done
	inst_multiple keyhearth-boot cryptsetup halt ip modprobe mount sed sleep || exit 1
	inst_libdir_file 'libgcc_s.so*'

	mkdir -p "$initdir/etc/cmdline.d"
	cmdline >"$initdir/etc/cmdline.d/91keyhearth-boot.conf"
	# systemd-networkd reads the kernel's command line alone; where that says nothing, DHCP it is.
	inst_simple "$moddir/dhcp.network" /etc/systemd/network/99-keyhearth-boot.network
	# So does systemd's generator of units that ask for passphrases.
	rm -f "$initdir${systemdutildir-/usr/lib/systemd}/system-generators/systemd-cryptsetup-generator"
	ln -sf /dev/null "$initdir${systemdsystemunitdir-/usr/lib/systemd/system}/debug-shell.service"

	inst_script "$moddir/open.sh" /sbin/keyhearth-boot-open
	inst_script "$moddir/stop.sh" /sbin/keyhearth-boot-stop
	inst_hook initqueue/settled 50 "$moddir/settled.sh"
	inst_hook initqueue/timeout 50 "$moddir/timeout.sh"
	inst_hook initqueue/finished 50 "$moddir/finished.sh"
	inst_hook pre-pivot 10 "$moddir/confirm.sh"
	inst_hook emergency 99 "$moddir/emergency.sh"
	dracut_need_initqueue
}
