#!/bin/sh
# dpkg: remove, then purge; rpm: 0 versions that are left. What it has made stays: sealed keys and evidence.
set -e

case "$1" in
remove)
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
  journalctl --update-catalog
  exit 0
  ;;
0)
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
  journalctl --update-catalog
  ;;
purge) ;;
*) exit 0 ;;
esac

if ! rmdir /var/lib/sealsign 2>/dev/null && [ -d /var/lib/sealsign ]; then
  echo "sealsign: /var/lib/sealsign stays, with the sealed keys and the audit log, which is evidence; to delete both: sudo rm -r /var/lib/sealsign"
fi
if [ -n "$(find /etc/sealsign -type f 2>/dev/null)" ]; then
  echo "sealsign: /etc/sealsign stays, with the files that you made there; to delete them: sudo rm -r /etc/sealsign"
fi
