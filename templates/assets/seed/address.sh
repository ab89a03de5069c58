# Gives a network interface its address. $1: its MAC address; $2: address and prefix length; $3: /sys/class/net;
# $4: where systemd-networkd looks for files that go with this boot
mac=$1 address=$2 found=
for each in "$3"/*; do
    # What has no device behind it (a bridge, a bond) may show the MAC address of one that has.
    if [ -e "$each/device" ] && [ "$(cat "$each/address")" = "$mac" ]; then found=${each##*/}; fi
done
[ -n "$found" ] || { echo "there is no network interface $mac"; exit 1; }
# Whoever looks after the box's interfaces would ask for an address by DHCP, and take this one away.
if systemctl -q is-active systemd-networkd 2>/dev/null; then
    mkdir -p "$4" || exit
    file=$4/00-posada-$(echo "$mac" | tr -d :).network
    text="[Match]
MACAddress=$mac
[Network]
Address=$address
DHCP=no"
    if [ "$(cat "$file" 2>/dev/null)" != "$text" ]; then
        printf '%s\n' "$text" >"$file" && networkctl reload && networkctl reconfigure "$found" || exit
    fi
elif command -v nmcli >/dev/null 2>&1 && systemctl -q is-active NetworkManager 2>/dev/null; then
    nmcli device set "$found" managed no || exit
fi
ip link set dev "$found" up && ip address replace "$address" dev "$found"
