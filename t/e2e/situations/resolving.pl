# SPDX-License-Identifier: GPL-3.0-or-later
# Parameters that say what an address resolves to. Left out: resolve_dequoted_address = yes, because quoted
# operators of recipients are local parts here in any case (doc/COMPATIBILITY.md).
my %base = (mydestination => 'local.test, mx.here.test', local_transport => 'smtp:HOPB', local_recipient_maps => '', smtpd_reject_unlisted_recipient => 'no');
my @numeric = ('a@1.2.3.4', 'a@127.0.0.1', 'a@1.2.3', 'a@1.2.3.4.5', 'a@[1.2.3.4]', 'a@far.123');
my @quoted = ('"a@far.test"@local.test', '"a b%far.test"@local.test', '"far test!a"@local.test', '"a@b"@far.test', '"a b"@local.test');
[
	(map { { main => { %base, resolve_numeric_domain => $_ }, dialogues => [
		(map { [ 'in', 's@far.test', [$_] ] } @numeric), map { [ 'in', $_, ['to@far.test'] ] } @numeric ] } } qw(yes no)),
	{ main => { %base, resolve_dequoted_address => 'no' }, dialogues => [ map { [ 'in', 's@far.test', [$_] ] } @quoted ] },
];
