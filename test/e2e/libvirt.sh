#!/bin/sh
# Runs a command beside a libvirt of its own, for virtual machines that leave nothing behind:
#
#	test/e2e/libvirt.sh bash
#	  cd test; CONVERGE_KEEP=1 go test -count=1 -v ./e2e -driver=vagrant -run NAME; vagrant ssh social1
#
# It needs root, and what test/e2e/vagrant.sh installs. The command, libvirtd, its dnsmasq and all machines are in namespaces of
# their own: of processes, so that all end with this script, even when it is killed; of the network, so that no bridge, rule or
# port is seen outside, and there is no way to the internet; of mounts, so that libvirt's directories are empty ones in
# .cache/e2e/libvirt, and this host's settings, machines and D-Bus are out of sight. One at a time runs in a repository.
# libvirt's logs and the machines' consoles are kept in .cache/e2e/logs until the next time.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
state=$repository/.cache/e2e/libvirt
logs=$repository/.cache/e2e/logs

# inside is the first process of the namespaces.
inside() {
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	mount -t sysfs sysfs /sys # that of the new network
	ip link set lo up
	mount -t tmpfs -o mode=755 tmpfs /run
	cp -a /etc/libvirt/. "$state/etc"
	rm -rf "$state"/etc/qemu/*.xml "$state"/etc/qemu/networks "$state"/etc/qemu/autostart
	settings
	mount --bind "$state/etc" /etc/libvirt
	mount --bind "$state/lib" /var/lib/libvirt
	mount --bind "$state/cache" /var/cache/libvirt
	mount --bind "$logs" /var/log/libvirt
	libvirtd --timeout 0 </dev/null >"$logs/libvirtd.log" 2>&1 &
	daemon=$!
	deadline=$(($(date +%s) + 120))
	until virsh --quiet --connect qemu:///system list >/dev/null 2>&1; do
		kill -0 "$daemon" 2>/dev/null || fail "libvirtd ended"
		[ "$(date +%s)" -lt "$deadline" ] || fail "libvirtd did not answer within 2 minutes"
		sleep 0.1
	done
	cd "$1"
	shift
	"$@"
}

# settings are those of a host that gives libvirt nothing but root: no security module, cgroups or polkit.
settings() {
	cat >"$state/etc/qemu.conf" <<-'CONF'
		user = "root"
		group = "root"
		security_driver = "none"
		dynamic_ownership = 0
		remember_owner = 0
		cgroup_controllers = []
		namespaces = []
		seccomp_sandbox = 0
		stdio_handler = "file"
	CONF
	cat >"$state/etc/libvirtd.conf" <<-'CONF'
		auth_unix_rw = "none"
	CONF
}

fail() {
	echo "$1; it said:" >&2
	tail -n 20 "$logs/libvirtd.log" >&2
	exit 1
}

if [ "${1-}" = --inside ]; then
	shift
	inside "$@"
	exit
fi
if [ "${1-}" != --bound ]; then
	exec setpriv --pdeathsig TERM "$0" --bound "$@" # it ends, in good order, with who started it
fi
shift
[ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT...]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "libvirt is started as root: sudo $0" >&2; exit 1; }
for program in virsh libvirtd dnsmasq qemu-system-x86_64 iptables ip unshare setpriv flock; do
	command -v "$program" >/dev/null || { echo "$program is missing; test/e2e/vagrant.sh installs it" >&2; exit 1; }
done
mkdir -p "$repository/.cache/e2e"
exec 9>"$state.lock"
flock --nonblock 9 || { echo "waiting for another $0 to end" >&2; flock 9; }
rm -rf "$state" "$logs" # also what one left that was killed
mkdir -p "$state/etc" "$state/lib/images" "$state/cache" "$state/vagrant" "$logs"
trap 'rm -rf "$state"' EXIT

# Vagrant's own files go with the machines. Vagrant itself asks nobody on the internet for its newest version.
export VAGRANT_HOME="$state/vagrant" VAGRANT_DOTFILE_PATH="$state/vagrant/machines" VAGRANT_CHECKPOINT_DISABLE=1
export VAGRANT_DEFAULT_PROVIDER=libvirt LIBVIRT_DEFAULT_URI=qemu:///system CONVERGE_CONSOLES="$logs"

# In the background, because a shell handles signals only while it waits; it keeps the standard input for a shell inside.
exec 3<&0
setpriv --pdeathsig KILL unshare --net --mount --pid --mount-proc --fork --kill-child "$0" --inside "$PWD" "$@" <&3 3<&- &
child=$!
trap 'kill -KILL "$child" 2>/dev/null; wait "$child" || true; exit 130' INT TERM HUP QUIT
code=0
wait "$child" || code=$?
exit "$code"
