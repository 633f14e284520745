#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Every parameter that Postfix documents is known, the settings of well-known mail systems (t/systems) load without
# a warning about a name, and doc/COMPATIBILITY.md counts what the program says.
# Runs in the build directory, or with its path in POSTHASTE_BUILD.
postconf=${POSTHASTE_BUILD:-$PWD}/conf/postconf
top=$(dirname "$0")/../../..
count=0 failed=0
errors=$(mktemp) || exit 99
trap 'rm -f "$errors"' EXIT

# ok NAME: by the status of the command before it; what it said is in $errors
ok() {
	if [ $? = 0 ]; then
		verdict='ok'
	else
		verdict='not ok' failed=1
		sed 's/^/# /' "$errors"
	fi
	count=$((count + 1))
	echo "$verdict $count - $1"
}

# shellcheck disable=SC2046
"$postconf" -c "$top/t/systems/mailu" --effect $(cat "$top/t/systems/postfix-3.12.names") >/dev/null 2>"$errors" &&
	[ ! -s "$errors" ]
ok 'every name that Postfix 3.12 documents is known'

"$postconf" -c "$top/t/systems/mailu" --effect nosuch 2>&1 | grep 'nosuch: unknown parameter' >"$errors"
ok '... and one that it has not is none'

for system in "$top"/t/systems/*/; do
	"$postconf" -c "$system" 2>"$errors" >/dev/null && ! grep -v 'will be removed; instead, ' "$errors"
	ok "$(basename "$system"): the program warns of no name"
	[ "$("$postconf" -c "$system" -n --effect | wc -l)" -ge 40 ]
	ok "$(basename "$system"): ... and sets many"
done

"$top/scripts/effects" "$postconf" --check 2>"$errors"
ok 'doc/COMPATIBILITY.md counts them'

echo "1..$count"
exit $failed
