# Logins from the first moment: systemd forbids them to all but root (pam_nologin(8)) until late in its start.
if [ -e /usr/lib/tmpfiles.d/systemd-nologin.conf ] && [ ! -e /etc/tmpfiles.d/systemd-nologin.conf ]; then
    mkdir -p /etc/tmpfiles.d && ln -s /dev/null /etc/tmpfiles.d/systemd-nologin.conf
fi
rm -f /run/nologin
