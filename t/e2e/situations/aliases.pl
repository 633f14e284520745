# SPDX-License-Identifier: GPL-3.0-or-later
# Virtual aliases, canonical maps, masquerading and bcc.
{
	main => {
		recipient_delimiter => '+',
		mydestination => 'local.test',
		local_transport => 'smtp:HOPB',
		local_recipient_maps => '',
		virtual_alias_domains => 'alias.test, other.test',
		virtual_alias_maps => 'texthash:DIR/virtual',
		canonical_maps => 'texthash:DIR/canonical',
		sender_canonical_maps => 'texthash:DIR/sender_canonical',
		recipient_canonical_maps => 'texthash:DIR/recipient_canonical',
		masquerade_domains => '!keep.masq.test masq.test',
		masquerade_exceptions => 'root',
		recipient_bcc_maps => 'texthash:DIR/rbcc',
		sender_bcc_maps => 'texthash:DIR/sbcc',
		smtpd_reject_unlisted_recipient => 'no',
	},
	tables => {
		virtual => <<'T',
one@alias.test		target@far.test
two@alias.test		a@far.test, b@far.test
chain@alias.test	one@alias.test, other@other.test
other@other.test	"quoted local"@far.test
self@alias.test		self@alias.test, copy@far.test
loop@alias.test		pool@alias.test
pool@alias.test		loop@alias.test
bare@alias.test		justname
here@alias.test		joe@local.test
@catch.test		@far.test
plus@alias.test		p@far.test
plus+known@alias.test	known@far.test
@other.test		fallback@far.test
root			admin@far.test
Mixed@alias.test	mixed@far.test
T
		canonical => "c\@far.test\tcanon\@far.test\n\@old.test\t\@new.test\nbarename\tBare.Name\@here.test\n",
		sender_canonical => "joe\@local.test\tJoe.Doe\@local.test\n",
		recipient_canonical => "ann\@local.test\tAnn.Doe\@local.test\n",
		rbcc => "watched\@far.test\twatcher\@far.test\n",
		sbcc => "boss\@far.test\tarchive\@far.test\n",
	},
	dialogues => [
		(map { [ 'in', 'sender@far.test', [$_] ] } qw(one@alias.test two@alias.test chain@alias.test other@other.test
			self@alias.test loop@alias.test bare@alias.test here@alias.test x@catch.test x+y@catch.test plus@alias.test
			plus+ext@alias.test plus+known@alias.test unknown@other.test root@local.test MIXED@ALIAS.test
			nobody@alias.test c@far.test c+ext@far.test user@old.test user+ext@old.test barename@local.test ann@local.test
			joe@local.test user@host.masq.test user@deep.host.masq.test user@keep.masq.test root@host.masq.test
			watched@far.test watched+ext@far.test barename root)),
		(map { [ 'in', $_, ['to@far.test'] ] } 'joe@local.test', 'joe+ext@local.test', 'ann@local.test', 'user@host.masq.test',
			'root@host.masq.test', 'a@keep.masq.test', 'boss@far.test', 'c@far.test', 'user@old.test', 'barename', '', 'one@alias.test'),
		[ 'in', 'joe@local.test', [ 'one@alias.test', 'two@alias.test', 'target@far.test', 'a@far.test' ] ],
		[ 'in', 'joe@local.test', ['to@far.test'], "From: Joe <joe\@local.test>\nTo: ann\@local.test, c\@far.test,\n \"Q, R\" <user\@old.test>\nCc: user\@host.masq.test\nReply-To: barename\nSubject: all of them\n\nx\n" ],
		[ 'out', 'joe@local.test', ['ann@local.test'], "From: joe\@local.test\nTo: ann\@local.test\nDate: x\nMessage-Id: <m\@x>\n\nx\n" ],
	],
};
