#!/usr/bin/env bash
# Counters, gauges and histograms for scripts; exporter-proxy keeps the values.
#
#     OPS_TO=unix:/run/exporter-proxy-operations.sock
#     . operations.sh
#     ops_inc backups_total                          # NAME [VALUE] [LABEL=VALUE ...]
#     ops_inc backups_bytes_total 1048576 volume=home
#     ops_set backup_files 1532 volume=home
#     ops_add backups_running -1
#     OPS_BUCKETS='1 10 60' ops_obs backup_seconds 41.5 volume=home
#     ops_del backup_files volume=home
#
# Or as a command: operations.sh inc backups_total 1 volume=home
#
# OPS_TO is unix:PATH or tcp:HOST:PORT (with OpenBSD's nc), udp:HOST:PORT (bash
# only), unixgram:PATH (with socat), or `-` for stdout, which sends many messages
# over one stream:
#
#     for host in a b c; do OPS_TO=- ops_set host_up 1 host="$host"; done | ops_send
#
# OPS_HELP is the help text of the metric. A function returns 1 if the message is
# not sent or, over a stream, rejected; the reason goes to stderr. With `set -e`,
# add `|| true` to calls that should not end the script.

ops_inc() { _ops_counted inc "$@"; }
ops_set() { _ops_valued set "$@"; }
ops_add() { _ops_valued add "$@"; }
ops_obs() { _ops_valued obs "$@"; }
ops_del() { _ops_message del "${1-}" 0 "${@:2}"; }

# Sends stdin to $OPS_TO.
ops_send() {
    local to=${OPS_TO:-unix:/run/exporter-proxy-operations.sock} place answer
    place=${to#*:}
    case $to in
    udp:* | tcp:*)
        # bash would truncate a larger port to another one.
        if ! [[ $place =~ ^.+:[0-9]{1,5}$ ]] || ((10#${place##*:} < 1 || 10#${place##*:} > 65535)); then
            printf 'OPS_TO needs a host and a port from 1 to 65535: %s\n' "$to" >&2
            return 1
        fi
        ;;
    esac
    case $to in
    -) cat ;;
    udp:*) cat >"/dev/udp/${place%:*}/${place##*:}" ;;
    unixgram:*) socat -u - "UNIX-SENDTO:$place" ;;
    unix:* | tcp:*)
        if [[ $to == tcp:* ]]; then
            answer=$(nc -N -w5 "${place%:*}" "${place##*:}") || return 1
        else
            answer=$(nc -N -w5 -U "$place") || return 1
        fi
        # The proxy answers only rejected messages.
        [[ -z $answer ]] || { printf '%s\n' "$answer" >&2 && return 1; }
        ;;
    *) printf 'OPS_TO is not a known kind of address: %s\n' "$to" >&2 && return 1 ;;
    esac
}

_ops_counted() { # OP NAME [VALUE] [LABEL=VALUE ...]
    if [[ $# -lt 3 || $3 == *=* ]]; then
        _ops_message "$1" "${2-}" 1 "${@:3}"
    else
        _ops_message "$@"
    fi
}

_ops_valued() { # OP NAME VALUE [LABEL=VALUE ...]
    if [[ $# -lt 3 ]]; then
        printf 'ops_%s: needs a name and a value\n' "$1" >&2
        return 1
    fi
    _ops_message "$@"
}

_ops_message() { # OP NAME VALUE [LABEL=VALUE ...]
    local number='^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$'
    local op=$1 name=$2 value=$3 label text comma='' number_of
    for number_of in "$value" ${OPS_BUCKETS-}; do
        if ! [[ $number_of =~ $number ]]; then
            printf 'ops_%s %s: not a number: %s\n' "$op" "$name" "$number_of" >&2
            return 1
        fi
    done
    text="{\"name\":$(_ops_text "$name"),\"op\":\"$op\",\"value\":$value"
    if [[ -n ${OPS_HELP-} ]]; then
        text+=",\"help\":$(_ops_text "$OPS_HELP")"
    fi
    if [[ $op == obs && -n ${OPS_BUCKETS-} ]]; then
        # shellcheck disable=SC2086 # split into words on purpose
        text+=",\"bucket_custom\":[$(IFS=' ' && set -- $OPS_BUCKETS && IFS=, && echo "$*")]"
    fi
    text+=',"labels":{'
    for label in "${@:4}"; do
        text+="$comma$(_ops_text "${label%%=*}"):$(_ops_text "${label#*=}")"
        comma=,
    done
    printf '%s}}\n' "$text" | ops_send
}

# Quotes a text as a JSON string.
_ops_text() {
    local text=$1 code plain escaped
    text=${text//\\/"\\\\"}
    text=${text//\"/"\\\""}
    if [[ $text == *[[:cntrl:]]* ]]; then
        for code in {1..31}; do
            printf -v escaped '\\u%04x' "$code"
            # shellcheck disable=SC2059 # an escape, not a format
            printf -v plain "\\x${escaped: -2}"
            text=${text//"$plain"/"$escaped"}
        done
    fi
    printf '"%s"' "$text"
}

# Run as a command, not sourced by a script.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    case ${1-} in
    inc | set | add | obs | del | send) "ops_$1" "${@:2}" ;;
    *) printf 'usage: %s inc|set|add|obs|del NAME [VALUE] [LABEL=VALUE ...]\n' "$0" >&2 && exit 2 ;;
    esac
fi
