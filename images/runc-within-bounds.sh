#!/usr/bin/env bash
# runc, minus the capabilities that this host does not have. Docker asks for
# every capability it knows when told --privileged, and runc then refuses to
# start the container if root itself was denied one. engine.sh makes this the
# default runtime on such hosts, so that the documented command works as written.
set -euo pipefail

names=(CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
    SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
    SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
    CHECKPOINT_RESTORE)

bounding=$((16#$(awk '/^CapBnd/ { print $2 }' /proc/self/status)))
missing=
for bit in "${!names[@]}"; do
    ((bounding >> bit & 1)) || missing+=" CAP_${names[bit]}"
done

# drop FILE FILTER: FILTER names the capability sets in the file.
drop() {
    jq --arg missing "$missing" \
        "if $2 then $2 |= map_values(. - (\$missing | split(\" \"))) else . end" "$1" >"$1.new"
    mv "$1.new" "$1"
}

args=("$@")
for i in "${!args[@]}"; do
    case ${args[i]} in
    --bundle | -b) drop "${args[i + 1]}/config.json" .process.capabilities ;; # create
    --process | -p) drop "${args[i + 1]}" .capabilities ;;                   # exec
    esac
done
exec runc "$@"
