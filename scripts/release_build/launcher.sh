#!/bin/sh
# Purveyor @VERSION@ in one file. Its first start unpacks it into PURVEYOR_CACHE, or else into purveyor/ in the user's
# cache folder. Needs sh, tar, gzip and coreutils or busybox.
set -eu

fail() {
    printf 'purveyor: %s\n' "$*" >&2
    exit 1
}

payload() { tail -c +@START@ -- "$0"; }

# Another first start may have put its tree there in the meantime. A rename onto a folder that is not empty fails.
put='
import os, sys
try:
    os.rename(*sys.argv[1:])
except OSError as error:
    if not os.path.isdir(sys.argv[2]):
        sys.exit(f"purveyor: Cannot unpack into {sys.argv[2]}: {error.strerror}.")
'

unpack() {
    [ "$(payload | sha256sum)" = "@SHA256@  -" ] ||
        fail "$0 is damaged: its SHA-256 checksum is wrong. Download it again."
    { mkdir -p -- "$cache" && draft=$(mktemp -d "$cache/.unpacking.XXXXXX"); } 2>/dev/null ||
        fail "Cannot write to $cache. Set PURVEYOR_CACHE to a folder that you can write to."
    trap 'rm -rf -- "$draft"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf 'purveyor: Unpacking into %s (once).\n' "$tree" >&2
    reason=$(payload | tar -xz -C "$draft" -f - 2>&1) ||
        fail "Cannot unpack into $cache: ${reason%%
*} @SIZE@ MB are needed."
    [ -x "$draft/tree/bin/python3" ] || fail "Cannot run programs in $cache. Set PURVEYOR_CACHE to another folder."
    "$draft/tree/bin/python3" -I -c "$put" "$draft/tree" "$tree"
    trap - EXIT INT TERM
    rm -rf -- "$draft"
}

if [ -n "${PURVEYOR_CACHE-}" ]; then
    cache=$PURVEYOR_CACHE
elif [ -n "${XDG_CACHE_HOME-}${HOME-}" ]; then
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/purveyor
else
    fail "HOME is not set. Set PURVEYOR_CACHE to the folder to unpack into."
fi
tree=$cache/@VERSION@-@ID@
[ -x "$tree/bin/python3" ] || unpack

# OpenSSL looks for certificates where the system that built it keeps them.
if [ -z "${SSL_CERT_FILE-}${SSL_CERT_DIR-}" ]; then
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem; do
        if [ -r "$bundle" ]; then
            export SSL_CERT_FILE="$bundle"
            break
        fi
    done
fi
exec "$tree/bin/python3" -I -m purveyor "$@"
