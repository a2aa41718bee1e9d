"""A user's systemd, which keeps a plain folder in step with a sealed one."""

import os
import shutil
import subprocess

import debian
import image
from machine import Machine
from server import HOST

UNIT = image.REPOSITORY / "packaging/user/keyhearth-sync@.service"
SIZE_MIB = 700
COMMAND_LINE = "console=ttyS0 quiet no_timer_check root=/dev/vda rw"
HOME = "srv/you"
ENVIRONMENT = """
PLAIN="/srv/you/My Documents"
SEALED="/srv/you/Sealed Documents"
KEY=files
SIGN_KEY=names
KEYHEARTH_URL=https://{host}:{port}
KEYHEARTH_CA_FILE=/srv/you/.config/keyhearth/ca.crt
KEYHEARTH_CERT_FILE=/srv/you/.config/keyhearth/you.crt
KEYHEARTH_KEY_FILE=/srv/you/.config/keyhearth/you.key
"""
SYSTEM = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/crypttab": "",
    "etc/systemd/network/any.network": f"[Match]\nType=ether\n[Network]\nAddress=10.0.2.15/24\nGateway={HOST}\n",
    "etc/systemd/system/look.service": """
[Unit]
Requires=user@1000.service
After=user@1000.service network-online.target
Wants=network-online.target
[Service]
Type=oneshot
User=you
Environment=XDG_RUNTIME_DIR=/run/user/1000
ExecStart=sh /srv/you/look
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
""",
}
# What you do. A unit that is started again and again is told apart from one that is not, and neither is waited for long.
LOOK = """
state() { systemctl --user show --property="$2" --value "keyhearth-sync@$1"; }
sealed() {
	until [ -e "$SEALED/$1.age" ]; do sleep 0.2; done
	echo "look: $1 holds $(keyhearth file open "$SEALED/$1.age" --output -)"
}
set -a
. ~/.config/keyhearth/documents.env
set +a
keyhearth file manifest "$SEALED" --sign-key names
systemctl --user enable --now keyhearth-sync@documents || echo "look: it did not start"
sealed before
echo what came >"$PLAIN/after"
sealed after
pid=$(state documents MainPID)
echo "look: restricted" $(grep -E '^(NoNewPrivs|Seccomp):' "/proc/$pid/status")
systemctl --user stop keyhearth-sync@documents
echo "look: stopped" $(state documents ActiveState) $(state documents Result) $(state documents NRestarts)
systemctl --user start keyhearth-sync@nothing || echo "look: without its file" $(state nothing SubState)
systemctl --user start keyhearth-sync@half
while half=$(state half SubState); do
	case $half in failed | auto-restart) break ;; esac
done
echo "look: without a key $half"
"""


def test_a_user_s_systemd_keeps_folders_in_step(tmp_path, server):
    for algorithm, alias in (("aes-256", "files"), ("ed25519", "names")):
        server.run(server.keys, "key", "create", algorithm, "--alias", alias)
    server.run(server.admin, "identity", "issue", "you", "--role", "key-user", "--out", tmp_path)
    environment = ENVIRONMENT.format(host=HOST, port=server.port)
    own = {
        ".config/systemd/user/keyhearth-sync@.service": UNIT.read_text(),
        ".config/keyhearth/documents.env": environment,
        ".config/keyhearth/half.env": environment.replace("KEY=files\n", ""),
        ".config/keyhearth/ca.crt": server.ca,
        ".config/keyhearth/you.crt": (tmp_path / "you.crt").read_text(),
        ".config/keyhearth/you.key": (tmp_path / "you.key").read_text(),
        "My Documents/before": "what was there\n",
        "look": LOOK,
    }
    root = debian.Root(tmp_path / "debian", SYSTEM | {f"{HOME}/{path}": text for path, text in own.items()})
    (root.folder / HOME / "Sealed Documents").mkdir()
    shutil.copy(os.environ["KEYHEARTH_BIN"], root.folder / "usr/bin/keyhearth")
    root.install(debian.cached("user"))
    root.run("useradd", "--uid", "1000", "--home-dir", f"/{HOME}", "you")
    root.run("chown", "--recursive", "you:you", f"/{HOME}")
    root.run("systemctl", "enable", "systemd-networkd.service", "look.service")
    boot, disk = root.folder / "boot", tmp_path / "disk"
    subprocess.run(["mkfs.ext4", "-q", "-d", root.folder, disk, f"{SIZE_MIB}M"], check=True)
    with Machine(tmp_path, disk, next(boot.glob("vmlinuz-*")), next(boot.glob("initrd.img-*")), COMMAND_LINE) as running:
        running.expect("look: before holds what was there")
        running.expect("look: after holds what came")
        running.expect("look: restricted NoNewPrivs: 1 Seccomp: 2")
        running.expect("look: stopped inactive success 0")
        # What is not set up is told at once, and not tried again and again.
        running.expect("look: without its file dead")
        running.expect("look: without a key failed")
