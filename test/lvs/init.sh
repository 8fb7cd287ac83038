#!/bin/sh
# The guest's first process. The files are the host's, read-only, but for the
# lab's own directory.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mkdir -p /run/lock /run/mysqld /run/tmp /run/netns /mnt/lab
for word in $(cat /proc/cmdline); do
	case "$word" in lab_dir=*) dir=${word#*=} ;; esac
done
mount -t hostfs none /mnt/lab -o "$dir"
# The kernel loads schedulers and nftables by itself, with this.
printf '#!/bin/sh\nexec /sbin/modprobe -d %s/modules "$@"\n' "$dir" >/run/modprobe
chmod +x /run/modprobe
echo /run/modprobe >/proc/sys/kernel/modprobe
echo director >/proc/sys/kernel/hostname
stty -F /dev/ttyS0 raw -echo
ip link set lo up
for module in ipv6 veth dummy; do /run/modprobe $module; done
(
	. "$dir/run.sh"
) </dev/null >/dev/ttyS0 2>&1
echo $? >/mnt/lab/status
sync
echo o >/proc/sysrq-trigger
