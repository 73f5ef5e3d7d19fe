#!/bin/sh
# Installs the Debian packages that only the end-to-end suite needs and that are missing. Without root it names them.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
need chromium chromium
need certutil libnss3-tools
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "These Debian packages are missing; ask root to run: apt-get install --no-install-recommends$missing" >&2
	exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# No service of theirs or of their dependencies is wanted here (invoke-rc.d(8), policy-rc.d).
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get -o Acquire::Retries=3 update -qq
# shellcheck disable=SC2086 # a list of packages
apt-get -o Acquire::Retries=3 install -y -qq --no-install-recommends $missing >/dev/null
