#!/bin/bash
# The dracut module: agent, configuration, cryptsetup, drivers, and the two hooks.

check() {
	require_binaries keyhearth-boot cryptsetup || return 1
	[[ -e ${dracutsysrootdir-}/etc/keyhearth/boot.toml ]] || return 255
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
	inst_multiple keyhearth-boot cryptsetup halt mount sleep
	# Nothing else of /etc/keyhearth: an initramfs is not the place for what an operator keeps there.
	inst_simple /etc/keyhearth/boot.toml
	inst_simple "$(sed -n 's/^ca *= *"\(.*\)" *$/\1/p' "${dracutsysrootdir-}/etc/keyhearth/boot.toml")"
	inst_libdir_file 'libgcc_s.so*'
	cmdline >"${initdir}/etc/cmdline.d/91keyhearth-boot.conf"
	inst_script "$moddir/stop.sh" /sbin/keyhearth-boot-stop
	inst_hook initqueue/online 50 "$moddir/open.sh"
	inst_hook pre-pivot 10 "$moddir/confirm.sh"
	dracut_need_initqueue
}
