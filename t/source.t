#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The sources as such: include directions, format, shell scripts, and that the tarball is complete.
# Run from the top of a source tree. POSTHASTE_BUILD: a configured build folder, for the tarball.
count=0
failed=0

# NAME COMMAND ...
holds() {
	count=$((count + 1))
	name=$1
	shift
	if said=$("$@" 2>&1); then
		echo "ok $count - $name"
	else
		echo "not ok $count - $name"
		failed=1
		printf '%s\n' "$said" | head -20 | sed 's/^/# /'
	fi
}

complete() {
	[ -e .git ] || return 0
	list=$(make -s -C "${POSTHASTE_BUILD:-build}" print-dist | tr ' ' '\n')
	missing=0
	for file in $(git ls-files); do
		case $file in
		.gitignore) continue ;;
		esac
		echo "$list" | grep -qxF "$file" && continue
		# EXTRA_DIST may name whole folders
		folder=$file
		while folder=${folder%/*} && ! echo "$list" | grep -qxF "$folder"; do
			case $folder in
			*/*) continue ;;
			esac
			echo "not in the tarball: $file"
			missing=1
			break
		done
	done
	return $missing
}

# t/run and prove start a story with what its first line names.
interpreters() {
	for file in t/*/*.t; do
		case $(head -n 1 "$file") in
		'#!'*) ;;
		*)
			echo "no interpreter in the first line: $file"
			return 1
			;;
		esac
	done
}

holds 'stories name their interpreter' interpreters
holds 'include directions' scripts/check-layers .
holds 'parameters act as the tables say' scripts/check-effects
holds 'format' scripts/format --check
holds 'the tarball has every file' complete
if command -v shellcheck >/dev/null; then
	# shellcheck disable=SC2046
	holds 'shell scripts' shellcheck -S warning $(grep -lr '^#!/bin/sh' scripts .ci t --include='*')
fi
echo "1..$count"
exit $failed
