# Starts what raises the host's changes in synced folders, once its port is there. $1: its script (raise.sh); $2: the
# port; $3 and $4: the script's further arguments
[ -d /run/systemd/system ] || exit 0
(umask 077 && mkdir -p /run/posada) && printf '%s' "$1" >/run/posada/raise || exit
device=$(systemd-escape --path --suffix=device "$2") || exit
cat >/run/systemd/system/posada-changes.service <<END || exit
[Unit]
Description=Changes on the host in synced folders
BindsTo=$device
After=$device

[Service]
ExecStart=/bin/sh /run/posada/raise $2 $3 $4
Restart=always
END
systemctl start --no-block posada-changes.service
