#!/bin/sh
# dpkg: remove; rpm: 0 versions that will be left. Both call it on an upgrade too, when nothing is stopped.
set -e

case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
  systemctl stop 'sealsign-*.socket' sealsign.service 'sealsign@*.service'
fi
for unit in sealsign.service sealsign-agent.socket sealsign-http.socket sealsign-admin.socket; do
  systemctl --no-reload disable "$unit" "${unit%.*}@.${unit#*.}"
done
