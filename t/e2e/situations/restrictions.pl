# SPDX-License-Identifier: GPL-3.0-or-later
# Access tables and restriction lists: replies, and what becomes of accepted mail.
{
	main => {
		mydestination => 'local.test',
		local_transport => 'smtp:HOPB',
		local_recipient_maps => '',
		relay_domains => 'relay.test',
		smtpd_helo_required => 'yes',
		smtpd_helo_restrictions => 'check_helo_access texthash:DIR/helo, reject_invalid_helo_hostname, reject_non_fqdn_helo_hostname',
		smtpd_sender_restrictions => 'check_sender_access texthash:DIR/sender, reject_non_fqdn_sender',
		smtpd_relay_restrictions => 'permit_mynetworks, reject_unauth_destination',
		smtpd_recipient_restrictions => 'check_recipient_access texthash:DIR/rcpt, reject_non_fqdn_recipient, check_client_access cidr:DIR/client, strict, permit',
		smtpd_data_restrictions => 'check_sender_access texthash:DIR/data, reject_multi_recipient_bounce',
		smtpd_end_of_data_restrictions => 'check_recipient_access texthash:DIR/eod',
		smtpd_restriction_classes => 'strict',
		strict => 'check_sender_access texthash:DIR/strict',
		smtpd_reject_unlisted_recipient => 'no',
		smtpd_recipient_limit => 5,
	},
	tables => {
		helo => "bad.helo.test REJECT\nok.helo.test OK\nnice.helo.test PERMIT\n",
		sender => <<'T',
reject@far.test		REJECT
rejecttext@far.test	REJECT not wanted
code@far.test		550 5.7.9 by number
codeonly@far.test	554 no status
four@far.test		450 4.7.9 later
defer@far.test		DEFER
defertext@far.test	DEFER wait a bit
dip@far.test		DEFER_IF_PERMIT perhaps
dir@far.test		DEFER_IF_REJECT perhaps
warn@far.test		WARN look at this
info@far.test		INFO just so
hold@far.test		HOLD keep it
discard@far.test	DISCARD away
prepend@far.test	PREPEND X-Seen: yes
redirect@far.test	REDIRECT other@far.test
bcc@far.test		BCC copy@far.test
filter@far.test		FILTER smtp:HOPC
dunno@far.test		DUNNO
ok@far.test		OK
what@far.test		WHATEVER
421@far.test		421 4.7.0 go away
521@far.test		521 5.7.0 go away for good
bad.test		REJECT domain
.parent.test		REJECT parent
user@			REJECT local part
class@far.test		strict
multi@far.test		reject_unauth_destination, permit
T
		rcpt => "reject\@far.test REJECT\nfour\@far.test 450 4.1.1 not yet\nspam\@local.test REJECT spam trap\nok\@else.test OK\nprepend\@local.test PREPEND X-For: you\nbad.rcpt.test 554 5.7.1 no\n",
		client => "127.0.0.2/32 DUNNO\n192.0.2.0/24 REJECT\n",
		data => "dataonly\@far.test REJECT at data\n",
		eod => "eod\@far.test REJECT at the end\n",
		strict => "strict\@far.test REJECT strictly\nclass\@far.test REJECT in class\n",
	},
	dialogues => [
		(map { [ 'in', $_, ['to@far.test'] ] } qw(reject@far.test rejecttext@far.test code@far.test codeonly@far.test four@far.test defer@far.test
			defertext@far.test dip@far.test dir@far.test warn@far.test info@far.test discard@far.test prepend@far.test redirect@far.test
			bcc@far.test filter@far.test dunno@far.test ok@far.test what@far.test 421@far.test 521@far.test x@bad.test x@sub.bad.test x@a.parent.test
			x@parent.test user@any.test class@far.test strict@far.test multi@far.test noat REJECT@FAR.test reject+ext@far.test dataonly@far.test), ''),
		(map { [ 'in', 's@far.test', [$_] ] } qw(reject@far.test four@far.test spam@local.test ok@else.test prepend@local.test x@bad.rcpt.test
			eod@far.test noat x@nodot)),
		(map { [ 'out', 's@far.test', [$_] ] } qw(to@far.test to@local.test to@relay.test to@sub.relay.test reject@far.test ok@else.test to@mx.here.test to@[127.0.0.1])),
		[ 'in', '', [ 'a@far.test', 'b@far.test' ] ],
		[ 'in', 's@far.test', [ map { "$_\@far.test" } 'a' .. 'h' ] ],
		[ 'in', 's@far.test', [ 'a@far.test', 'reject@far.test', 'b@far.test', 'four@far.test' ] ],
		(map { [ 'in', [ "EHLO $_", 'MAIL FROM:<s@far.test>', 'RCPT TO:<a@far.test>', 'QUIT' ] ] } 'bad.helo.test', 'ok.helo.test', 'nice.helo.test', 'nodot',
			'under_score.test', '[127.0.0.1]', '[1.2.3]', '-dash.test', 'a..b', '192.0.2.1'),
		[ 'in', [ 'MAIL FROM:<s@far.test>', 'EHLO client.test', 'MAIL FROM:<s@far.test>', 'QUIT' ] ],
	],
};
