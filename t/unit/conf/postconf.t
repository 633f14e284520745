#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The postconf command: output and edits byte by byte, as Postfix 3.7 gives them for the same files.
# Runs in the build directory, or with its path in POSTHASTE_BUILD.
postconf=${POSTHASTE_BUILD:-$PWD}/conf/postconf
count=0 failed=0
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99

# is NAME: compares the files got and want
is() {
	count=$((count + 1))
	if diff -u want got >difference; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		sed 's/^/# /' difference
		failed=$((failed + 1))
	fi
}

# gives NAME OPTION...: want comes from stdin; stdout, stderr and a status that is not 0 are compared
gives() {
	name=$1
	shift
	cat >want
	"$postconf" -c . "$@" >got 2>errors
	status=$?
	cat errors >>got
	[ $status = 0 ] || echo "status $status" >>got
	is "$name"
}

# file NAME FILE: contents from stdin
file() {
	cat >want
	cp "$2" got
	is "$1"
}

main() {
	cat >main.cf
}

master() {
	cat >master.cf
}

main <<'EOF'
compatibility_level = 3.6
myhostname = h.example.com
mynetworks = 127.0.0.0/8, 10.0.0.0/8, 192.168.0.0/16, 172.16.0.0/12, [::1]/128, [fd00::]/8, 1.2.3.4/32
smtpd_recipient_restrictions =
    permit_mynetworks,
# comment
    reject
unused = 1
mine = x
relayhost = [$mine]
EOF

gives 'explicit values, sorted, with single blanks' -n <<'EOF'
compatibility_level = 3.6
config_directory = .
mine = x
myhostname = h.example.com
mynetworks = 127.0.0.0/8, 10.0.0.0/8, 192.168.0.0/16, 172.16.0.0/12, [::1]/128, [fd00::]/8, 1.2.3.4/32
relayhost = [$mine]
smtpd_recipient_restrictions = permit_mynetworks, reject
postconf: warning: ./main.cf: unused parameter: unused=1
EOF
sed -i '/^unused/d' main.cf
gives 'folded' -f mynetworks <<'EOF'
mynetworks = 127.0.0.0/8, 10.0.0.0/8, 192.168.0.0/16, 172.16.0.0/12, [::1]/128,
    [fd00::]/8, 1.2.3.4/32
EOF
gives 'expanded' -x relayhost smtpd_timeout smtpd_banner <<'EOF'
relayhost = [x]
smtpd_timeout = 300s
smtpd_banner = h.example.com ESMTP Posthaste
EOF
gives 'as written' relayhost smtpd_timeout content_filter <<'EOF'
relayhost = [$mine]
smtpd_timeout = ${stress?{10}:{300}}s
content_filter =
EOF
gives 'values only, also empty ones' -h myhostname content_filter <<'EOF'
h.example.com

EOF
gives 'names only' -H myhostname relayhost <<'EOF'
myhostname
relayhost
EOF
gives 'JSON' -j myhostname <<'EOF'
{"myhostname": "h.example.com"}
EOF
gives 'defaults' -d relayhost smtp_destination_concurrency_limit local_transport <<'EOF'
relayhost =
smtp_destination_concurrency_limit = $default_destination_concurrency_limit
local_transport = local:$myhostname
EOF
gives 'an unknown name' nosuch <<'EOF'
postconf: warning: nosuch: unknown parameter
EOF
gives 'overrides' -o relayhost=y relayhost <<'EOF'
relayhost = y
EOF
gives 'a parameter without effect' max_use <<'EOF'
max_use = 100
EOF

"$postconf" -c . >all
"$postconf" -c . -d >defaults
count=$((count + 1))
if [ "$(wc -l <all)" -gt 1000 ] && LC_ALL=C sort -c all && [ "$(wc -l <defaults)" -gt 1000 ]; then
	echo "ok $count - all parameters, sorted"
else
	echo "not ok $count - all parameters, sorted"
	failed=$((failed + 1))
fi

echo 'soft_bounce = perhaps' >>main.cf
gives 'bad values: they are told of, and shown like all' -h myhostname soft_bounce <<'EOF'
h.example.com
perhaps
postconf: error: ./main.cf, line 10: soft_bounce = perhaps: expected yes or no
EOF

echo 'no line' >>main.cf
gives 'lines that are none: the rest is shown, the status says so' -h myhostname <<'EOF'
h.example.com
postconf: error: ./main.cf, line 11: missing '=' after attribute name: "no line"; expected name = value
postconf: error: ./main.cf, line 10: soft_bounce = perhaps: expected yes or no
status 1
EOF

# ---- what Postfix 3.7 does not say yet

main <<'EOF'
myhostname = h.example.com
mynetworks = 127.0.0.0/8 # loopback
virtual_alias_maps = inline:{ { a = b } #two, c=d } pcre:{ { /#three/ x } }
smtp_use_tls = yes
virtual_maps =
EOF
gives 'comments behind values, and old names' -n <<'EOF'
config_directory = .
myhostname = h.example.com
mynetworks = 127.0.0.0/8 # loopback
smtp_use_tls = yes
virtual_alias_maps = inline:{ { a = b } #two, c=d } pcre:{ { /#three/ x } }
virtual_maps =
postconf: warning: ./main.cf: #comment after other text is not allowed: # loopback...
postconf: warning: ./main.cf: #comment after other text is not allowed: #two  c=d ...
postconf: warning: ./main.cf: support for parameter "smtp_use_tls" will be removed; instead, specify "smtp_tls_security_level"
postconf: warning: ./main.cf: support for parameter "virtual_maps" will be removed; instead, specify "virtual_alias_maps"
EOF
gives 'but not with -q' -q -h myhostname <<'EOF'
h.example.com
postconf: warning: ./main.cf: #comment after other text is not allowed: # loopback...
postconf: warning: ./main.cf: #comment after other text is not allowed: #two  c=d ...
EOF
gives 'plug-ins of SASL' -a <<'EOF'
cyrus
dovecot
EOF
gives '... and of the client' -A <<'EOF'
cyrus
EOF
gives 'no TLS' -T compile-version </dev/null

# ---- editing main.cf

sample() {
	main <<'EOF'
# first
foo = 1
# mid
   cont
# c2

  cont2
bar=2
foo = 3
# end
EOF
}

sample
chmod 640 main.cf
gives 'edit: duplicates' -e foo=9 new=x 'sp = a   b ' <<'EOF'
postconf: warning: ./main.cf: multiple entries for "foo"
EOF
file 'edit: comments stay, continuations go' main.cf <<'EOF'
# first
foo = 9
# mid
# c2

bar=2
foo = 9
# end
new = x
sp = a   b
EOF
count=$((count + 1))
if [ "$(stat -c %a main.cf)" = 640 ] && [ ! -e main.cf.tmp ]; then
	echo "ok $count - permissions stay, nothing is left"
else
	echo "not ok $count - permissions stay, nothing is left"
	failed=$((failed + 1))
fi
gives 'remove' -X bar </dev/null
gives 'comment out' -# foo <<'EOF'
postconf: warning: ./main.cf: multiple entries for "foo"
EOF
gives 'edit without -e' foo=7 </dev/null
file 'removed, commented out, added' main.cf <<'EOF'
# first
#foo = 9
# mid
# c2

#foo = 9
# end
new = x
sp = a   b
foo = 7
EOF
sample
gives 'a name without value' -e nothing <<'EOF'
postconf: fatal: missing '=' after attribute name: "nothing"
status 1
EOF
gives 'a value without name' -e =x <<'EOF'
postconf: fatal: missing attribute name: "=x"
status 1
EOF
gives 'two names' -e 'a b=c' <<'EOF'
postconf: fatal: missing '=' after attribute name: "a b=c"
status 1
EOF
gives 'two lines' -e 'a=b
c=d' <<'EOF'
postconf: fatal: -e, -X, or -# accepts no multi-line input
status 1
EOF
cp main.cf before
sample
file 'nothing was changed by them' before <main.cf
mkdir real
mv main.cf real/main.cf
ln -s real/main.cf main.cf
gives 'through a symbolic link' -e bar=5 </dev/null
count=$((count + 1))
if [ -h main.cf ] && grep -q '^bar = 5$' real/main.cf; then
	echo "ok $count - the link stays"
else
	echo "not ok $count - the link stays"
	failed=$((failed + 1))
fi
rm main.cf
main <<'EOF'
compatibility_level = 3.6
myhostname = h.example.com
EOF

# ---- master.cf

master <<'EOF'
smtp inet n - n - - smtpd
  -o smtpd_timeout=5 -o { smtpd_banner = a b }
# comment
submission inet n - n - - smtpd
  -o syslog_name=postfix/$service_name
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
relay unix - - n - 5 smtp
scalemail-backend unix - n n - 2 pipe
  flags=R user=v { argv=/bin/x y } and some more arguments that do not fit on the line
EOF
gives 'entries' -M <<'EOF'
smtp       inet  n       -       n       -       -       smtpd -o smtpd_timeout=5 -o {smtpd_banner=a b}
submission inet  n       -       n       -       -       smtpd -o syslog_name=postfix/$service_name -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
relay      unix  -       -       n       -       5       smtp
scalemail-backend unix - n       n       -       2       pipe flags=R user=v {argv=/bin/x y} and some more arguments that do not fit on the line
EOF
gives 'entries, folded' -Mf submission relay/unix 'scale*' scalemail-backend <<'EOF'
submission inet  n       -       n       -       -       smtpd
    -o syslog_name=postfix/$service_name
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
relay      unix  -       -       n       -       5       smtp
scalemail-backend unix - n       n       -       2       pipe flags=R user=v
    {argv=/bin/x y} and some more arguments that do not fit on the line
postconf: warning: unmatched request: "scale*"
EOF
gives 'fields, in the order of the file' -F relay/unix '*/inet/chroot' <<'EOF'
smtp/inet/chroot = n
submission/inet/chroot = n
relay/unix/service = relay
relay/unix/type = unix
relay/unix/private = -
relay/unix/unprivileged = -
relay/unix/chroot = n
relay/unix/wakeup = -
relay/unix/process_limit = 5
relay/unix/command = smtp
EOF
gives 'an entry as JSON' -Mj relay <<'EOF'
{"relay/unix": "relay unix - - n - 5 smtp"}
EOF
gives 'a parameter of a service as JSON' -Pj submission/inet/syslog_name <<'EOF'
{"submission/inet/syslog_name": "postfix/$service_name"}
EOF
gives 'also what a service does not set' -PPx relay/unix/smtpd_helo_required submission/inet/syslog_name <<'EOF'
submission/inet/syslog_name = postfix/submission
relay/unix/smtpd_helo_required = no
EOF
gives 'parameters' -P <<'EOF'
smtp/inet/smtpd_banner = a b
smtp/inet/smtpd_timeout = 5
submission/inet/smtpd_relay_restrictions = permit_sasl_authenticated,reject
submission/inet/syslog_name = postfix/$service_name
EOF
gives 'parameters, expanded' -Px submission/inet/syslog_name <<'EOF'
submission/inet/syslog_name = postfix/submission
EOF
gives 'edit a field' -F smtp/inet/chroot=y </dev/null
gives 'edit a parameter' -P submission/inet/syslog_name=new smtp/inet/soft_bounce=yes </dev/null
gives 'remove a parameter' -PX smtp/inet/smtpd_timeout </dev/null
gives 'replace and add entries' -M 'relay/unix=relay unix - - n - - smtp -o soft_bounce=yes' \
	'new/unix = new unix - - n - 3 lmtp' </dev/null
gives 'comment an entry out' -M# scalemail-backend/unix </dev/null
file 'master.cf after that' master.cf <<'EOF'
smtp       inet  n       -       y       -       -       smtpd
    -o {smtpd_banner=a b}
    -o soft_bounce=yes
# comment
submission inet  n       -       n       -       -       smtpd
    -o syslog_name=new
    -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
relay      unix  -       -       n       -       -       smtp
    -o soft_bounce=yes
#scalemail-backend unix - n n - 2 pipe
#  flags=R user=v { argv=/bin/x y } and some more arguments that do not fit on the line
new        unix  -       -       n       -       3       lmtp
EOF
cp master.cf before
gives 'a field that does not exist' -F relay/unix/nope=1 <<'EOF'
postconf: fatal: invalid service attribute name: "nope"
status 1
EOF
gives 'a value that a field cannot have' -F relay/unix/chroot=q <<'EOF'
postconf: fatal: ./master.cf: chroot "q": expected y, n or -
status 1
EOF
gives 'an entry that is none' -M 'relay/unix=bad' <<'EOF'
postconf: fatal: bad field count: "relay/unix=bad"
status 1
EOF
gives 'a service that does not exist' -P nosuch/unix/x=1 <<'EOF'
postconf: warning: unmatched service_name/type: "nosuch/unix/x=1"
EOF
file 'nothing was changed by them' master.cf <before

rm main.cf
gives 'no main.cf' -n <<'EOF'
postconf: fatal: open ./main.cf: No such file or directory
status 1
EOF

echo "1..$count"
[ $failed = 0 ]
