# SPDX-License-Identifier: GPL-3.0-or-later
# Restrictions about the hosts that serve a domain, with a name server that both ask.
my @kinds = qw(a mx ns);
my $dns = <<'ZONE';
plain.test A 127.9.0.1
mail.test MX 20 worse.mail.test
mail.test MX 10 best.mail.test
mail.test NS ns.mail.test
best.mail.test A 127.9.0.10
worse.mail.test A 127.9.0.11
ns.mail.test A 127.9.0.53
sub.mail.test A 127.9.0.12
bad-mx.test MX 10 bad-host.test
bad-ns.test NS ns.bad-host.test
bad-host.test A 127.9.6.1
ns.bad-host.test A 127.9.6.2
under.bad-ns.test A 127.9.0.13
bad-addr.test A 127.9.6.66
addr-mx.test MX 10 elsewhere.test
elsewhere.test A 127.9.6.66
ok-mx.test MX 10 ok-host.test
ok-mx.test A 127.9.7.1
ok-mx.test NS ok-host.test
ok-host.test A 127.9.7.1
defer-mx.test MX 10 defer-host.test
defer-host.test A 127.9.7.2
class-mx.test MX 10 class-host.test
class-host.test A 127.9.7.3
null.test MX 0 .
numeric.test MX 10 127.9.6.66
lost-mx.test MX 10 nowhere.test
temp.test SERVFAIL
xn--bcher-kva.test MX 10 bad-host.test
ZONE
my $table = <<'TABLE';
bad-host.test		REJECT bad host
.bad-host.test		REJECT below a bad host
127.9.6			REJECT bad net
127.9.6.66		550 5.7.9 bad address
ok-host.test		OK
127.9.7.1		OK
127.9.7.2		DEFER_IF_PERMIT not now
class-host.test		lax
plain.test		REJECT only the name
sub.mail.test		REJECT own mail server
TABLE
my @domains = qw(plain.test mail.test sub.mail.test bad-mx.test bad-ns.test under.bad-ns.test bad-addr.test addr-mx.test ok-mx.test
	defer-mx.test class-mx.test null.test numeric.test lost-mx.test gone.test [127.9.6.66] [127.9.6.5] [127.1.1.1] [nonsense] 127.9.6.66);
my %base = (mynetworks => '127.0.0.1/32', smtpd_restriction_classes => 'lax', lax => 'permit', virtual_alias_maps => '');

# One restriction for each kind of name: senders, recipients, HELO.
[
	(map { my $kind = $_; {
		main => { %base,
			smtpd_sender_restrictions => "check_sender_${kind}_access texthash:DIR/hosts",
			smtpd_helo_restrictions => "check_helo_${kind}_access texthash:DIR/hosts",
			smtpd_relay_restrictions => 'permit_mynetworks, reject',
			smtpd_recipient_restrictions => "check_recipient_${kind}_access texthash:DIR/hosts" },
		dns => $dns,
		tables => { hosts => $table },
		dialogues => [
			(map { [ 'in', [ 'EHLO mail.test', "MAIL FROM:<s\@$_>", 'RCPT TO:<to@mail.test>', 'RSET', 'MAIL FROM:<>', "RCPT TO:<r\@$_>", 'QUIT' ] ] } @domains),
			(map { [ 'in', [ "EHLO $_", 'MAIL FROM:<>', 'RCPT TO:<to@mail.test>', 'QUIT' ] ] } qw(bad-mx.test under.bad-ns.test bad-addr.test ok-mx.test
				[127.9.6.66] gone.test nodots)),
			[ 'in', [ 'EHLO mail.test', 'MAIL FROM:<s@temp.test>', 'RCPT TO:<to@mail.test>', 'QUIT' ] ],
			[ 'in', [ 'EHLO mail.test', "MAIL FROM:<s\@b\xc3\xbccher.test> SMTPUTF8", 'RCPT TO:<to@mail.test>', 'QUIT' ] ],
		],
	} } @kinds),
	# with the networks of the first mail servers restricted, and without
	(map { {
		main => { %base, mydestination => 'here.test, mine.test', local_recipient_maps => '', local_transport => 'smtp:HOPB', proxy_interfaces => '127.9.8.1',
			inet_interfaces => '127.0.0.1', relay_domains => 'relay.test', permit_mx_backup_networks => $_, smtpd_relay_restrictions => 'permit_mx_backup, reject' },
		dns => <<'ZONE',
backup.test MX 10 first.test
backup.test MX 20 other.test
backup.test MX 20 gate.test
byname.test MX 10 first.test
byname.test MX 30 mine.test
both.test MX 10 first.test
both.test MX 10 gate.test
both.test MX 20 gate.test
firstname.test MX 10 mine.test
firstname.test MX 20 gate.test
only.test MX 10 gate.test
none.test MX 10 first.test
none.test MX 20 other.test
two.test MX 10 first.test
two.test MX 10 other.test
two.test MX 20 gate.test
loopback.test MX 10 first.test
loopback.test MX 20 here-too.test
lost.test MX 10 nowhere.test
lost.test MX 20 gate.test
lost-backup.test MX 10 first.test
lost-backup.test MX 20 nowhere.test
null.test MX 0 .
plain.test A 127.9.8.1
temp.test SERVFAIL
first.test A 127.9.1.1
other.test A 127.9.2.1
gate.test A 127.9.8.1
mine.test A 127.9.3.1
here-too.test A 127.0.0.1
ZONE
		dialogues => [ map { [ 'in', 's@far.test', [ $_ ] ] } 'u@here.test', 'u@relay.test', (map { "u\@$_.test" } qw(backup byname both firstname only none two
			loopback lost lost-backup null plain temp gone)), 'u@[127.0.0.1]', 'u@[127.9.8.1]', 'nodomain' ],
	} } '', '127.9.1.0/24'),
];
