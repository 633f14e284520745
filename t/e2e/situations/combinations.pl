# SPDX-License-Identifier: GPL-3.0-or-later
# The same addresses and tables under other settings: what happens to extensions, original recipients and copies,
# who completes what, which transport wins.
do {
	my %tables = (
		virtual => "one\@alias.test target\@far.test\nplus+known\@alias.test known\@far.test\n\@catch.test \@far.test\ntwo\@alias.test a\@far.test, b\@far.test\n"
			. "chain\@alias.test one\@alias.test\nbare barealias\@far.test\n",
		canonical => "c\@far.test canon\@far.test\n\@old.test \@new.test\njoe Joe.Doe\@local.test\n",
		scanonical => "s\@far.test sender\@far.test\n", rcanonical => "r\@far.test recipient\@far.test\n",
		generic => "target\@far.test g\@far.test\nsender\@far.test gs\@far.test\n", rbcc => "target\@far.test copy\@far.test\n\@bcc.test all\@far.test\n",
		sbcc => "s\@far.test scopy\@far.test\n\@from.test fcopy\@far.test\n", relocated => "gone\@far.test new\@else.test\ngone local somewhere\n",
		transport => "far.test smtp:HOPB\n.deep.test smtp:HOPC\ndeep.test smtp:HOPB\nuser\@one.test :HOPC\none.test :\ntwo.test error:\nlocal.test smtp:HOPC\n* smtp:HOPA\n",
		stransport => "s\@far.test smtp:HOPC\n\@from.test smtp:HOPB\n<> smtp:HOPB\n", srelay => "s\@far.test HOPB\n\@from.test HOPC\n<> HOPC\n",
		relay => "known\@relay.test x\n\@sub.relay.test x\n", box => "known\@box.test x\n", locals => "known x\njoe x\n",
	);
	my @addresses = qw(one@alias.test one+ext@alias.test plus+known@alias.test plus+other@alias.test x+y@catch.test two+e@alias.test chain+e@alias.test
		c+ext@far.test u+ext@old.test r+ext@far.test target@far.test target+x@far.test w@bcc.test bare@local.test bare+e@local.test joe@local.test);
	my @classes = qw(known@relay.test unknown@relay.test x@sub.relay.test x@other.sub.relay.test known@box.test unknown@box.test x@alias.test known@local.test
		unknown@local.test x@sub.local.test x@far.test x@a.deep.test x@deep.test user@one.test other@one.test x@two.test gone@far.test);
	my %mapped = (
		virtual_alias_domains => 'alias.test, catch.test', virtual_alias_maps => 'texthash:DIR/virtual', canonical_maps => 'texthash:DIR/canonical',
		sender_canonical_maps => 'texthash:DIR/scanonical', recipient_canonical_maps => 'texthash:DIR/rcanonical', mydestination => 'local.test',
		local_transport => 'smtp:HOPB', local_recipient_maps => '', recipient_bcc_maps => 'texthash:DIR/rbcc', sender_bcc_maps => 'texthash:DIR/sbcc',
		recipient_delimiter => '+', smtp_generic_maps => 'texthash:DIR/generic', smtpd_reject_unlisted_recipient => 'no',
	);
	my %classed = (
		mydestination => 'local.test', local_transport => 'smtp:HOPB', local_recipient_maps => 'texthash:DIR/locals', relay_domains => 'relay.test',
		relay_recipient_maps => 'texthash:DIR/relay', virtual_mailbox_domains => 'box.test', virtual_mailbox_maps => 'texthash:DIR/box', virtual_transport => 'smtp:HOPC',
		virtual_alias_domains => 'alias.test', virtual_alias_maps => '',
	);
	my @mapped = map { [ 'in', 's@far.test', [$_] ] } @addresses;
	my $header = "From: joe\nTo: ann\@host, \"B B\" <bob\@host.dom>, site!user, user%site\@local.test\nCc: c\@far.test\nReply-To: u\@old.test\n\nx\n";
	my @headers = map { my $client = $_; map { [ $client, 'joe@local.test', ['x@local.test'], $_ ] } $header, "Subject: nothing\n\nx\n", "Resent-From: joe\nFrom: a\@far.test\n\nx\n" } qw(in out);
	[
		{ main => { %mapped, propagate_unmatched_extensions => '' }, tables => \%tables, dialogues => \@mapped },
		{ main => { %mapped, propagate_unmatched_extensions => 'canonical, virtual, alias, forward, include, generic', enable_original_recipient => 'no', always_bcc => 'always@far.test' },
			tables => \%tables, dialogues => [ @mapped, [ 'in', 'x@from.test', [ 'one@alias.test', 'target@far.test', 'two@alias.test' ] ], [ 'in', '', ['w@bcc.test'] ] ] },
		{ main => { %mapped, recipient_delimiter => '-', virtual_alias_maps => '', canonical_classes => 'envelope_recipient', sender_canonical_classes => 'envelope_sender', smtp_generic_maps => '' },
			tables => \%tables, dialogues => [ @mapped[ 0, 7 .. 12 ], map({ [ 'in', $_, ['c@far.test'], "From: $_\nTo: c\@far.test\nCc: r\@far.test, s\@far.test\n\nx\n" ] } 's@far.test', 'c@far.test', 'u@old.test') ] },
		{ main => { %classed, relayhost => 'HOPA' }, tables => \%tables, dialogues => [ map { [ 'in', 's@far.test', [$_] ] } @classes ] },
		{ main => { %classed, relayhost => 'HOPA', transport_maps => 'texthash:DIR/transport', relocated_maps => 'texthash:DIR/relocated', parent_domain_matches_subdomains => 'relay_domains, transport_maps',
				show_user_unknown_table_name => 'no', unknown_local_recipient_reject_code => 450, unknown_relay_recipient_reject_code => 551 }, tables => \%tables,
			dialogues => [ map({ my $c = $_; map { [ $c, 's@far.test', [$_] ] } @classes } qw(in out)) ] },
		{ main => { %classed, default_transport => 'smtp:HOPA', sender_dependent_default_transport_maps => 'texthash:DIR/stransport', relayhost => '', relay_transport => 'smtp:HOPC' }, tables => \%tables,
			dialogues => [ map({ my $s = $_; map { [ 'in', $s, [$_] ] } 'x@far.test', 'known@relay.test', 'known@box.test' } 's@far.test', 's+e@far.test', 'x@from.test', 'x@no.test', '') ] },
		{ main => { %classed, relayhost => 'HOPA', sender_dependent_relayhost_maps => 'texthash:DIR/srelay', recipient_delimiter => '+', relay_transport => 'smtp:HOPC' }, tables => \%tables,
			dialogues => [ map({ my $s = $_; map { [ 'in', $s, [$_] ] } 'x@far.test', 'known@relay.test', 'known@box.test' } 's@far.test', 's+e@far.test', 'x@from.test', 'x@no.test', '') ] },
		{ main => { mydestination => 'local.test', local_transport => 'smtp:HOPB', local_recipient_maps => '', append_at_myorigin => 'yes', append_dot_mydomain => 'no', swap_bangpath => 'no', allow_percent_hack => 'no' },
			dialogues => \@headers },
		{ main => { mydestination => 'local.test', local_transport => 'smtp:HOPB', local_recipient_maps => '', append_dot_mydomain => 'yes', remote_header_rewrite_domain => 'remote.test', always_add_missing_headers => 'yes' },
			dialogues => \@headers },
		{ main => { mydestination => 'local.test', local_transport => 'smtp:HOPB', local_recipient_maps => '', local_header_rewrite_clients => '', canonical_maps => 'texthash:DIR/canonical', myorigin => 'origin.test',
				header_from_format => 'obsolete', always_add_missing_headers => 'yes' }, tables => \%tables, dialogues => \@headers },
		{ main => { %mapped, smtpd_authorized_verp_clients => '127.0.0.1', virtual_alias_domains => 'alias.test', always_bcc => 'always@far.test' }, tables => \%tables,
			dialogues => [ map { [ 'in', [ 'EHLO client.test', $_, 'RCPT TO:<target@far.test>', 'RCPT TO:<one+e@alias.test>', 'RCPT TO:<"q d"@far.test>', 'DATA', \"Subject: x\n\nx\n", 'QUIT' ] ] }
				'MAIL FROM:<s@far.test> XVERP', 'MAIL FROM:<list@list.test> XVERP=-=', 'MAIL FROM:<list+e@list.test> xverp', 'MAIL FROM:<list@list.test> XVERP=', 'MAIL FROM:<list@list.test> XVERP=ab',
				'MAIL FROM:<> XVERP', 'MAIL FROM:<"l t"@list.test> BODY=8BITMIME XVERP=+=' ] },
	]
};
