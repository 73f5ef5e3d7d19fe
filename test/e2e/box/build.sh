#!/bin/sh
# Builds .cache/box/converge-debian12.box, the virtual machine that the Vagrantfile starts under libvirt: Debian 12 from its
# packages, with those of an instance host (package test/e2e/machines has the list). It needs root, and mmdebstrap, extlinux,
# e2fsprogs and qemu-utils. A box whose inputs, this script and the list, are as they were is not built again.
set -eu
PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../.." && pwd)
release=bookworm
out=$repository/.cache/box
box=$out/converge-debian12.box

# A disk for what scenarios write; an image has only those blocks that were written.
disk=4G
# What a virtual machine needs besides, and a container does not: a kernel, a way in, and Vagrant's rsync.
machinery=udev,kmod,iproute2,openssh-server,sudo,rsync,zstd,initramfs-tools,linux-image-cloud-amd64,libnss-systemd,util-linux-extra
# Units that only cost time, or need the internet.
masked="apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer
getty@tty1.service serial-getty@ttyS0.service nginx.service"

# build runs in namespaces of its own: mounts and processes end with it, however that is.
build() {
	packages=$1 work=$2 root=$2/root
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $3 !~ /security/ { print $2; exit }')
	initramfs
	# shellcheck disable=SC2086 # no mirror is no argument
	mmdebstrap --quiet --variant=minbase --mode=root --format=directory \
		--aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/net/ethernet/*' \
		--dpkgopt='path-exclude=/lib/modules/*/kernel/drivers/infiniband/*' \
		--essential-hook="copy-in $work/initramfs-tools /etc" \
		--include="$machinery,$packages" "$release" "$root" $mirror
	lap "packages: $(du -sm "$root" | cut -f1) MiB"
	configure
	image
	archive
}

# initramfs prepares the settings of an initial file system with the drivers of QEMU's devices alone.
initramfs() {
	mkdir -p "$work/initramfs-tools/conf.d"
	printf 'MODULES=list\nCOMPRESS=zstd\n' >"$work/initramfs-tools/conf.d/box.conf"
	printf 'virtio_pci\nvirtio_blk\nvirtio_net\next4\n' >"$work/initramfs-tools/modules"
}

# configure makes the root what Vagrant expects (https://developer.hashicorp.com/vagrant/docs/boxes/base): a user vagrant with
# the well-known key and sudo, and an address by DHCP on the first network.
configure() {
	chroot "$root" useradd --create-home --shell /bin/bash --uid 1000 vagrant
	chroot "$root" passwd --quiet --delete vagrant
	for home in "$root/root" "$root/home/vagrant"; do
		install -d -m 700 "$home/.ssh"
		echo "$vagrant_key" >"$home/.ssh/authorized_keys"
		chmod 600 "$home/.ssh/authorized_keys"
	done
	chown -R 1000:1000 "$root/home/vagrant/.ssh"
	echo 'vagrant ALL=(ALL) NOPASSWD:ALL' >"$root/etc/sudoers.d/vagrant"
	chmod 440 "$root/etc/sudoers.d/vagrant"
	printf 'UseDNS no\nGSSAPIAuthentication no\n' >"$root/etc/ssh/sshd_config.d/box.conf"
	echo box >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 box\n' >"$root/etc/hosts"
	rm -f "$root/etc/resolv.conf" && : >"$root/etc/resolv.conf" # the scenarios say who answers
	printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\nIPv6AcceptRA=no\nLinkLocalAddressing=no\n[DHCPv4]\nClientIdentifier=mac\n' \
		>"$root/etc/systemd/network/99-dhcp.network"
	# The journal outlives a power cut but for its last seconds.
	mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d"
	printf '[Journal]\nStorage=persistent\nSyncIntervalSec=2s\n' >"$root/etc/systemd/journald.conf.d/box.conf"
	host_keys
	chroot "$root" systemctl --quiet enable systemd-networkd ssh host-keys
	# A unit that waits for the network has its addresses; without a cable it does not wait for ever.
	chroot "$root" systemctl --quiet enable systemd-networkd-wait-online
	mkdir -p "$root/etc/systemd/system/systemd-networkd-wait-online.service.d"
	printf '[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --timeout=60\n' \
		>"$root/etc/systemd/system/systemd-networkd-wait-online.service.d/box.conf"
	# shellcheck disable=SC2086 # a list of units
	chroot "$root" systemctl --quiet mask $masked
	echo '/dev/vda / ext4 noatime,errors=remount-ro 0 0' >"$root/etc/fstab"
	: >"$root/etc/machine-id"
	rm -rf "$root"/etc/ssh/ssh_host_*key* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
}

# host_keys has every machine make its own at its first boot; one of the kind that is quick to make.
host_keys() {
	cat >"$root/etc/systemd/system/host-keys.service" <<-'UNIT'
		[Unit]
		Description=Make the SSH host key
		Before=ssh.service
		ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
		[Service]
		Type=oneshot
		ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
		[Install]
		WantedBy=multi-user.target
	UNIT
}

# image makes a disk that boots: ext4 without a partition table, extlinux in the boot sector. The file system has no feature
# that extlinux 6.04 does not read.
image() {
	cp --remove-destination -L "$root"/boot/vmlinuz-* "$root/boot/vmlinuz"
	mv "$root"/boot/initrd.img-* "$root/boot/initrd.img"
	rm -f "$root"/boot/vmlinuz-* "$root"/boot/System.map-* "$root"/vmlinuz* "$root"/initrd.img*
	mkdir -p "$root/boot/extlinux"
	# Without the mitigations of processor faults, emulation is faster; these machines have nothing to hide.
	printf 'DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n  KERNEL ../vmlinuz\n  INITRD ../initrd.img\n  APPEND %s\n' \
		'root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 mitigations=off systemd.show_status=auto' >"$root/boot/extlinux/extlinux.conf"
	truncate -s "$disk" "$work/disk"
	mkfs.ext4 -q -F -O '^64bit,^metadata_csum,^metadata_csum_seed,^orphan_file' -d "$root" "$work/disk"
	mkdir "$work/mnt"
	mount -o loop "$work/disk" "$work/mnt"
	extlinux --install "$work/mnt/boot/extlinux" >/dev/null 2>&1
	umount "$work/mnt"
	qemu-img convert -c -o compression_type=zstd -W -m 4 -f raw -O qcow2 "$work/disk" "$work/box.img"
	lap "disk: $(du -m "$work/box.img" | cut -f1) MiB"
}

# archive writes the .box, which is there as a whole or not at all.
archive() {
	printf '{"provider":"libvirt","format":"qcow2","virtual_size":%d}\n' "${disk%G}" >"$work/metadata.json"
	tar -C "$work" -cf "$work/box" metadata.json box.img
	mv "$work/box" "$box"
}

lap() { echo "box: $(($(date +%s) - began)) s: $*"; }

# Vagrant's well-known key, of which everybody has the private half.
vagrant_key="ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key"
began=$(date +%s)

if [ "${1-}" = --inside ]; then
	build "$2" "$3"
	exit
fi
[ "$(id -u)" = 0 ] || { echo "the box is built as root: sudo $0" >&2; exit 1; }
packages=$(cd "$repository/test" && go run ./e2e/cmd/packages instance "$release" | paste -sd,)
[ -n "$packages" ] || { echo "package test/e2e/machines gives no list of packages" >&2; exit 1; }
key=$({ cat "$here/build.sh"; echo "$packages"; } | sha256sum | cut -d' ' -f1)
mkdir -p "$out"
exec 9>"$out/lock"
flock 9
if [ -e "$box" ] && [ "$(cat "$out/key" 2>/dev/null)" = "$key" ]; then
	exit 0
fi
rm -rf "$out/work" "$out/key"
mkdir "$out/work"
trap 'rm -rf "$out/work"' EXIT
trap 'exit 1' INT TERM HUP
setpriv --pdeathsig KILL unshare --mount --pid --mount-proc --fork --kill-child "$0" --inside "$packages" "$out/work"
echo "$key" >"$out/key"
lap "$box: $(($(stat -c %s "$box") / 1048576)) MiB"
