#!/bin/sh
# dpkg: configure [VERSION BEFORE]; rpm: how many versions there are now.
set -e

case "$1" in
configure) [ -n "$2" ] && upgrade=yes || upgrade=no ;;
1) upgrade=no ;;
2) upgrade=yes ;;
*) exit 0 ;;
esac

systemd-sysusers sealsign.conf
systemd-tmpfiles --create sealsign.conf
journalctl --update-catalog
[ ! -d /run/systemd/system ] || systemctl daemon-reload

if [ "$upgrade" = no ]; then
  systemctl preset sealsign.service
  cat <<'NEXT'
sealsign is installed. Nothing runs yet. Next:
  sudoedit /etc/sealsign/sealsign.toml
  sudo systemctl enable --now sealsign.service
  sudo sealsign doctor
NEXT
  exit 0
fi

# The sockets stay open: who connects meanwhile waits for the new version.
if [ -d /run/systemd/system ]; then
  invoke=systemctl
  ! command -v deb-systemd-invoke >/dev/null || invoke=deb-systemd-invoke # it asks policy-rc.d
  $invoke try-restart sealsign.service 'sealsign@*.service' ||
    echo "sealsign: the new version didn't start: journalctl -u sealsign.service -n 20 says why" >&2
fi
