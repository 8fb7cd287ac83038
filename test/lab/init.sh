#!/bin/sh
# The guest's first process. The files are the host's, read-only.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for dir in /run /mnt /var/lib/drbd /tmp; do
	[ "$dir" = /tmp ] || mount -t tmpfs tmpfs "$dir"
done
mkdir -p /run/lock /run/drbd /run/mysqld /run/tmp
for word in $(cat /proc/cmdline); do
	case "$word" in
	lab_node=*) node=${word#*=} ;;
	lab_dir=*) dir=${word#*=} ;;
	lab_program=*) program=${word#*=} ;;
	esac
done
echo "db$node" >/proc/sys/kernel/hostname
: >/run/drbd.conf
cp "$dir/drbd.conf" /run/drbd.conf
mount --bind /run/drbd.conf /etc/drbd.conf
printf '#!/bin/sh\necho "$(date +%%s.%%N) $*" >>/run/handlers\n[ "$1" = fence-peer ] && exit "$(cat /run/fence-exit)"\nexit 0\n' >/run/handler
echo 5 >/run/fence-exit
chmod +x /run/handler
ip link set lo up
ip addr add "10.77.0.$node/24" dev vec0
ip addr add "10.77.1.$node/24" dev vec1
# A guest drops the large frames that the other's offloading makes.
for dev in vec0 vec1; do ethtool -K $dev tso off gso off gro on >/dev/null 2>&1; done
ip link set vec0 up
ip link set vec1 up
for module in hmac sha1_generic; do modprobe -d "$dir/modules" $module; done
modprobe -d "$dir/modules" drbd usermode_helper=/run/handler || echo "no DRBD"
"$program" inside-the-lab
echo o >/proc/sysrq-trigger
