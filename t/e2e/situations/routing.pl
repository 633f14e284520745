# SPDX-License-Identifier: GPL-3.0-or-later
# Address classes, transport_maps, relay hosts by sender, relocated users.
{
	main => {
		mydestination => 'local.test, sub.local.test',
		local_transport => 'smtp:HOPB',
		local_recipient_maps => 'texthash:DIR/local',
		relay_domains => 'relay.test, .wild.test',
		relay_recipient_maps => 'texthash:DIR/relay',
		virtual_mailbox_domains => 'box.test',
		virtual_mailbox_maps => 'texthash:DIR/box',
		virtual_transport => 'smtp:HOPC',
		virtual_alias_domains => 'alias.test',
		virtual_alias_maps => 'texthash:DIR/virtual',
		transport_maps => 'texthash:DIR/transport',
		relocated_maps => 'texthash:DIR/relocated',
		sender_dependent_relayhost_maps => 'texthash:DIR/sender_relay',
		sender_dependent_default_transport_maps => 'texthash:DIR/sender_transport',
		recipient_delimiter => '+-',
		parent_domain_matches_subdomains => '',
	},
	tables => {
		local => "known x\n\@sub.local.test x\n",
		relay => "known\@relay.test x\n\@deep.wild.test x\n",
		box => "known\@box.test x\ncatch\@box.test y\n",
		virtual => "known\@alias.test to\@far.test\ngone\@alias.test gone\@far.test\n",
		transport => <<'T',
user@byuser.test	smtp:HOPB
user+ext@byuser.test	smtp:HOPC
byuser.test		smtp:HOPA
bydomain.test		smtp:HOPB
.bydomain.test		smtp:HOPC
exact.bydomain.test	smtp:HOPA
nexthoponly.test	:HOPC
error.test		error:5.7.1 nothing for you here
noerror.test		error:
retry.test		retry:4.2.1 come back later
discard.test		discard:thrown away
nosuch.test		nosuch:nowhere
known@box.test		smtp:HOPB
T
		relocated => "gone\@far.test new\@else.test\nold\@local.test somewhere else\n\@moved.test other.test\n",
		sender_relay => "vip\@far.test HOPB\n\@bulk.test HOPC\nnone\@far.test DUNNO\n",
		sender_transport => "special\@far.test smtp:HOPC\n",
	},
	dialogues => [
		map { my $client = $_; (
			(map { [ $client, 'sender@far.test', [$_] ] } 'known@local.test', 'unknown@local.test', 'any@sub.local.test', 'x@sub.sub.local.test',
				'known@relay.test', 'unknown@relay.test', 'x@sub.relay.test', 'x@a.wild.test', 'x@deep.wild.test', 'x@wild.test',
				'known@box.test', 'known+ext@box.test', 'known-ext@box.test', 'unknown@box.test', 'catch@box.test', 'known@alias.test', 'unknown@alias.test',
				'known+ext@local.test', 'postmaster@local.test', 'postmaster', 'abuse@local.test'),
		) } qw(in out),
	],
	more => [
		(map { [ 'in', 'sender@far.test', [$_] ] } 'user@byuser.test', 'user+ext@byuser.test', 'user-other@byuser.test', 'else@byuser.test',
			'x@bydomain.test', 'x@sub.bydomain.test', 'x@a.sub.bydomain.test', 'x@exact.bydomain.test', 'x@nexthoponly.test',
			'x@error.test', 'x@noerror.test', 'x@retry.test', 'x@discard.test', 'gone@far.test', 'gone+ext@far.test', 'x@moved.test',
			'gone@alias.test', 'x@BYDOMAIN.test', 'x@far.test'),
		(map { [ 'in', $_, ['x@far.test'] ] } 'vip@far.test', 'vip+ext@far.test', 'x@bulk.test', 'none@far.test', 'special@far.test', ''),
		[ 'in', 's@far.test', [ 'x@bydomain.test', 'x@far.test', 'x@error.test', 'known@box.test', 'known@local.test' ] ],
	],
};
