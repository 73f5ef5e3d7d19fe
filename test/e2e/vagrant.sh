#!/bin/sh
# Runs the end-to-end suite in virtual machines, from a bare Debian 12 with Go: installs the packages that are missing, builds
# the machines' box when its inputs have changed, and runs the tests in test/e2e/libvirt.sh, which leaves nothing behind.
#
#	test/e2e/vagrant.sh [PACKAGE] [FLAG OF go test...]
#
# PACKAGE is ./e2e unless it is given. Logs are kept in .cache/e2e.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "virtual machines need root: sudo $0" >&2; exit 1; }
command -v go >/dev/null || { echo "go is missing: https://go.dev/doc/install" >&2; exit 1; }

missing=""
for package in vagrant vagrant-libvirt libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients dnsmasq-base iptables \
	iproute2 qemu-system-x86 qemu-utils seabios mmdebstrap extlinux e2fsprogs openssh-client rsync util-linux; do
	dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
add() (
	echo "installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	# The tests have a libvirt of their own; Debian would start one for this host (invoke-rc.d(8), policy-rc.d).
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod 755 /usr/sbin/policy-rc.d
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	fi
	lock=${TMPDIR:-/tmp}/converge-apt.lock # package test/machine holds it too
	flock "$lock" apt-get update -qq
	# shellcheck disable=SC2086 # a list of packages
	flock "$lock" apt-get install -y -qq --no-install-recommends $missing >/dev/null
)
[ -z "$missing" ] || add
sh "$here/packages.sh"
"$here/box/build.sh"
"$here/dist.sh" # the tests build these too, where there is no way to a Go module that is missing

package=./e2e
case ${1-} in ./*) package=$1 && shift ;; esac
cd "$here/.."
exec go test -count=1 -v -timeout 60m -exec "$here/libvirt.sh" "$package" "$@" -driver=vagrant
