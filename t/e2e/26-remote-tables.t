#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Remote tables: access, domains, clients, addresses, aliases and transports in socketmap, tcp and sqlite tables. Mail
# goes where they say; a server that is down or silent defers mail, one that hangs holds up nobody who does not ask it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn);
use Test::More;

my $sqlite = `sqlite3 --version 2>/dev/null`;
plan skip_all => 'needs sqlite3' if !$sqlite;

my $next = Posthaste->recorder;
my ($map_port, $tcp_port) = (free_port(), free_port());
my $mta = Posthaste->prepare;
my $dir = $mta->{dir};

sub server {
	my ($port, $name, $kind) = @_;
	unlink "$dir/$name.ready";
	my $pid = spawn("$dir/$name.out", $^X, "$FindBin::Bin/lib/tableserver.pl", $port, "$dir/$name", $kind);
	wait_until(sub { -e "$dir/$name.ready" }, 20) or die "no $kind server";
	return $pid;
}

sub set {
	my ($name, @rows) = @_;
	spew("$dir/$name.new", join '', map { "$_\n" } @rows);
	rename "$dir/$name.new", "$dir/$name";
	return;
}

sub asked { my ($name) = @_; return -e "$dir/$name.asked" ? slurp("$dir/$name.asked") : '' }

set('map', "domains:relay.test\trelay", "access:bad\@relay.test\tREJECT not you", "access:odd\@relay.test\t=GARBAGE",
	"access:busy\@relay.test\t=TEMP come again", "rcpts:user\@relay.test\tx", "rcpts:many\@relay.test\tx",
	"rcpts:bad\@relay.test\tx", "rcpts:busy\@relay.test\tx", "rcpts:odd\@relay.test\tx", "rcpts:user+ext\@relay.test\tx",
	"boxes:one\@box.test\tone/", "boxes:two\@box.test\ttwo/", "boxes:odd\@box.test\todd/",
	map { "ids:$_\@box.test\t" . (getpwnam 'nobody')[2] } qw(one two));
set('tcp', map { "$_\tsmtp:[127.0.0.1]:$next->{port}" } qw(user@relay.test user+ext@relay.test one@other.test
	two@other.test three@other.test changed-one@other.test changed-two@other.test));
my $map_pid = server($map_port, 'map', 'socketmap');
my $tcp_pid = server($tcp_port, 'tcp', 'tcp');
mkdir "$dir/db";
chmod 0755, "$dir/db";
system 'sqlite3', "$dir/db/a.db", q{create table alias (a text, goto text);
	insert into alias values ('many@relay.test', 'one@other.test'), ('many@relay.test', 'two@other.test'),
		('o''hara@relay.test', 'three@other.test'), ('wide@relay.test', 'a@other.test'),
		('wide@relay.test', 'b@other.test'), ('wide@relay.test', 'c@other.test');};
spew("$dir/alias.cf", "dbpath = $dir/db/a.db\nquery = select goto from alias\n  where a = '%s'\nexpansion_limit = 2\n");

my $map = "socketmap:inet:localhost:$map_port"; # a name, which must be looked up
$mta->configure(
	relay_domains => "$map:domains",
	relay_recipient_maps => "$map:rcpts, sqlite:$dir/alias.cf",
	virtual_alias_maps => "sqlite:$dir/alias.cf",
	transport_maps => "proxy:tcp:127.0.0.1:$tcp_port",
	smtpd_recipient_restrictions => "check_recipient_access $map:access",
	virtual_mailbox_domains => 'box.test', virtual_mailbox_base => "$dir/mail",
	virtual_mailbox_maps => "$map:boxes", virtual_minimum_uid => 1,
	virtual_uid_maps => "$map:ids", virtual_gid_maps => "$map:ids",
	mynetworks => '192.0.2.1', recipient_delimiter => '+', lookup_timeout => '4s');

# postmap asks as the workers do
my ($rc, $out) = $mta->command('postmap', '-q', 'many@relay.test', "sqlite:$dir/alias.cf");
is "$rc $out", "0 one\@other.test,two\@other.test\n", 'postmap: sqlite';
($rc, $out) = $mta->command('postmap', '-q', "o'hara\@relay.test", "sqlite:$dir/alias.cf");
is "$rc $out", "0 three\@other.test\n", 'postmap: a quote in the key is only that';
($rc, $out) = $mta->command('postmap', '-q', 'none@relay.test', "sqlite:$dir/alias.cf");
is "$rc $out", '1 ', 'postmap: not found';
($rc, $out) = $mta->command('postmap', '-q', 'wide@relay.test', "sqlite:$dir/alias.cf");
like "$rc $out", qr/\A1 .*expansion_limit/, 'postmap: too many results';
($rc, $out) = $mta->command('postmap', '-q', 'user@relay.test', "proxy:tcp:127.0.0.1:$tcp_port");
is "$rc $out", "0 smtp:[127.0.0.1]:$next->{port}\n", 'postmap: tcp, through proxy';
($rc, $out) = $mta->command('postmap', '-q', 'bad@relay.test', "$map:access");
is "$rc $out", "0 REJECT not you\n", 'postmap: socketmap';
($rc, $out) = $mta->command('postmap', '-q', 'x', "sqlite:$dir/none.cf");
like "$rc $out", qr/\A1 .*none\.cf/s, 'postmap: no parameter file';

$mta->launch;
my ($lookup) = grep { $_->{class} eq 'lookup' } $mta->workers;
ok $lookup, 'there is a lookup worker';

sub dialogue {
	my (@rcpts) = @_;
	my $c = $mta->smtp;
	$c->cmd('EHLO client.test');
	$c->cmd('MAIL FROM:<sender@elsewhere.test>');
	my @replies = map { $c->cmd("RCPT TO:<$_>") } @rcpts;
	return ($c, @replies);
}

sub mail {
	my (@rcpts) = @_;
	my ($c, @replies) = dialogue(@rcpts);
	like $c->cmd('DATA'), qr/^354/, "DATA for @rcpts";
	my $reply = $c->cmd("Subject: x\r\n\r\ntext for @rcpts\r\n.");
	$c->quit;
	return $reply;
}

sub arrived {
	my (@rcpts) = @_;
	return wait_until(sub { my $got = $next->got; !grep { $got !~ /RCPT TO:<\Q$_\E>/ } @rcpts }, 20);
}

like mail('user@relay.test'), qr/^250/, 'mail for a user of a relay domain is accepted';
ok arrived('user@relay.test'), 'and goes where the tcp table says';
like mail('many@relay.test', "o'hara\@relay.test"), qr/^250/, 'mail for aliases';
ok arrived('one@other.test', 'two@other.test', "three\@other.test"), 'goes to all that the database says';
like mail('User+Ext@relay.test'), qr/^250/, 'an extension, and another case';
like asked('map'), qr/^rcpts:user\+ext\@relay\.test$/m, 'the whole key is asked for, folded';
unlike asked('map') . asked('tcp'), qr/^(?:rcpts:)?(?:\@relay\.test|relay\.test|user\+ext|\.test)$/m, 'and no parts of it';

my ($c, $bad, $none, $busy, $odd) =
	dialogue(map { "$_\@relay.test" } qw(bad none busy odd));
like $bad, qr/^554 5\.7\.1 <bad\@relay\.test>: Recipient address rejected: not you/, 'REJECT of the table';
like $none, qr/^550 5\.1\.1 <none\@relay\.test>: Recipient address rejected: User unknown/, 'not listed';
like $busy, qr/^451 4\.3\.[05] /, 'a temporary failure of the server defers';
like $odd, qr/^451 4\.3\.[05] /, 'and so does nonsense';
like $c->cmd('RCPT TO:<a@foreign.test>'), qr/^454 4\.7\.1|^554 5\.7\.1/, 'no relay for others';
ok $mta->wait_log(qr/proxymap\[\d+\]: warning: table \Q$map\E:access: lookup error: /), 'the log tells of it';
like mail('user@relay.test'), qr/^250/, 'and nothing else is disturbed';
ok $mta->wait_log(qr/table \Q$map\E:access: answers again/), 'the log tells of the end';

# mailboxes
like mail('one@box.test', 'two@box.test'), qr/^250/, 'mail for mailboxes of a table';
ok wait_until(sub { (my @f = glob "$dir/mail/{one,two}/new/*") == 2 }, 20), 'is delivered where it says';
SKIP: {
	skip 'without root mail belongs to who delivers', 2 if $>;
	like mail('odd@box.test'), qr/^250/, 'a mailbox that the table of owners lacks';
	ok $mta->wait_log(qr/to=<odd\@box\.test>, .*dsn=4\.3\.5, status=deferred/), 'is deferred';
}

# a large message, whose content is on its way to the disk when its tables are asked
($c) = dialogue('many@relay.test');
$c->cmd('DATA');
$c->send_raw("Subject: large\r\n\r\n" . ('x' x 78 . "\r\n") x 12000);
like $c->cmd('.'), qr/^250/, 'a large message';
$c->quit;
ok wait_until(sub { (() = $next->got =~ /RCPT TO:<one\@other\.test>/g) == 2 }, 20), 'arrives';

# a server that hangs
kill 'STOP', $map_pid;
my $waits = $mta->smtp;
$waits->cmd('EHLO client.test');
$waits->cmd('MAIL FROM:<sender@elsewhere.test>');
$waits->send_raw("RCPT TO:<user\@relay.test>\r\n");
my $free = $mta->smtp;
like $free->cmd('EHLO other.test'), qr/^250/, 'while one session waits for a server that hangs, others go on';
like $free->cmd('MAIL FROM:<a@b.test>'), qr/^250/, 'as far as they need it not';
$free->quit;
kill 'CONT', $map_pid;
like $waits->reply, qr/^250/, 'and the first goes on when it answers';
$waits->quit;
kill 'STOP', $map_pid;
($c, my $late) = dialogue('user@relay.test');
like $late, qr/^451 4\.3\.0 /, 'one that does not answer in time defers';
$c->quit;
kill 'CONT', $map_pid;

# the lookup worker ends
kill 'KILL', $lookup->{pid};
like mail('user@relay.test'), qr/^250/, 'a lookup worker that dies is replaced';

# a server that is down: the message is refused for now, at its end
Posthaste::end_child($tcp_pid);
wait_until(sub { my ($d, $r) = dialogue('user@relay.test'); $d->quit; $r =~ /^451 4\.3\.0/ }, 10);
($c, my $down) = dialogue('user@relay.test');
like $down, qr/^451 4\.3\.0 <user\@relay\.test>: Temporary lookup failure/, 'a table that cannot be asked defers';
$c->quit;
$tcp_pid = server($tcp_port, 'tcp', 'tcp');
like mail('user@relay.test'), qr/^250/, 'until it is back';
ok $mta->wait_log(qr/table tcp:\S+: answers again/), 'and the log says so';
is scalar(() = $mta->log =~ /table tcp:\S+: lookup error: /g), 1, 'one line per outage';
ok wait_until(sub { (() = $next->got =~ /RCPT TO:<user\@relay\.test>/g) >= 3 }, 20), 'all that was accepted arrives';

# a reload, with a session of before that asks afterwards; and a file of parameters that changes
my $old = $mta->smtp;
$old->cmd('EHLO client.test');
is +($mta->command('posthaste', 'reload'))[0], 0, 'reload';
like mail('user@relay.test'), qr/^250/, 'new sessions ask the new worker';
$old->cmd('MAIL FROM:<sender@elsewhere.test>');
like $old->cmd('RCPT TO:<user@relay.test>'), qr/^250/, 'a session of before has its answers, too';
$old->quit;
spew("$dir/alias.cf", slurp("$dir/alias.cf") . "result_format = changed-%s\n");
ok $mta->wait_log(qr/table \Q$dir\E\/alias\.cf has changed/), 'a changed file of parameters is noticed';
ok wait_until(sub { mail('many@relay.test'); $next->got =~ /RCPT TO:<changed-one\@other\.test>/ }, 20), 'and used';

# who a client is, what is local, and addresses on their way in and out
my $far = Posthaste->recorder;
set('map', "nets:127.0.0.1\tx", "local:here.test\tx", "canon:joe\@in.test\tjoe.doe\@in.test",
	"generic:joe.doe\@in.test\tjoe\@out.test", "generic:down\@in.test\t=TEMP later", "canon:busy\@in.test\t=TEMP later");
$mta->configure(mynetworks => "$map:nets", mydestination => "$map:local", local_recipient_maps => '', relay_domains => '',
	relay_recipient_maps => '', virtual_alias_maps => '', transport_maps => '', smtpd_recipient_restrictions => '',
	canonical_maps => "$map:canon", smtp_generic_maps => "$map:generic", relayhost => "[127.0.0.1]:$far->{port}",
	home_mailbox => 'Maildir/', minimal_backoff_time => '2s', queue_run_delay => '1s', lookup_timeout => '4s');
my @before = map { $_->{pid} } grep { $_->{class} eq 'smtpd' } $mta->workers;    # one of the last reload may still end
is +($mta->command('posthaste', 'reload'))[0], 0, 'remote tables for clients, local domains and headers';
ok wait_until(sub { !grep { kill 0, $_ } @before }, 30), 'the workers of before go';

sub from {
	my ($sender, $rcpt, $head) = @_;
	my $c2 = $mta->smtp;
	$c2->cmd('EHLO client.test');
	my $reply = $c2->cmd("MAIL FROM:<$sender>");
	$reply = $c2->cmd("RCPT TO:<$rcpt>") if $reply =~ /^250/;
	$reply = $c2->cmd("$head\r\n\r\ntext\r\n.") if $reply =~ /^250/ && $c2->cmd('DATA') =~ /^354/;
	$c2->quit;
	return $reply;
}
like from('joe@in.test', 'a@far.test', "From: Joe <joe\@in.test>\r\nX-One: 1"), qr/^250/,
	'a client of mynetworks may relay';
ok wait_until(sub { $far->got =~ /MAIL FROM:<joe\@out\.test>/ }, 20), 'the sender is mapped twice';
ok wait_until(sub { $far->got =~ /^From: Joe <joe\@out\.test>\r?$/m }, 20), 'and so is the header';
like from('x@in.test', 'nobody@here.test', 'Subject: local'), qr/^250/, 'local domains are those of the table';
like from('busy@in.test', 'a@far.test', 'Subject: x'), qr/^451 4\.3\.0/, 'a map that cannot be asked';
like from('x@in.test', 'a@far.test', 'From: busy@in.test'), qr/^451 4\.3\.0/, 'nor for a header';
like from('down@in.test', 'b@far.test', 'Subject: x'), qr/^250/, 'one that is asked when mail leaves';
ok $mta->wait_log(qr/to=<b\@far\.test>.*dsn=4\.3\.0, status=deferred \(address mapping table lookup error\)/),
	'defers the mail';
like from('x@in.test', 'b@far.test', "From: down\@in.test"), qr/^250/, 'for a header, too';
ok wait_until(sub { (() = $mta->log =~ /to=<b\@far\.test>.*status=deferred/g) >= 2 }, 20), 'which waits';
unlike $far->got, qr/down\@in\.test/, 'and does not go out as it is';
set('map', "nets:127.0.0.1\tx", "generic:down\@in.test\tup\@out.test");
ok wait_until(sub { $mta->command('postqueue', '-f'); $far->got =~ /^From: up\@out\.test/m }, 30), 'until the table is back';
set('map', "nets:127.0.0.1\t=TEMP later");
like from('x@in.test', 'a@far.test', 'Subject: x'), qr/^451 4\.3\.0/, 'who may relay is not known: try again';

# where nothing can wait for an answer
$mta->configure(header_checks => "$map:heads");
($rc, $out) = $mta->command('posthaste', 'check');
ok $rc != 0 && $out =~ /header_checks: cannot use remote table .*: it would be asked for each line/s,
	'header checks take no remote table';

is $mta->stop, 0, 'stops';
is join('', grep { !/process lookup pid $lookup->{pid} killed by signal 9/ } split /^/, $mta->crashes), '',
	'nothing crashed, but the worker that was killed';
is $mta->refusals, 0, 'no system call was refused';
Posthaste::end_child($_) for $map_pid, $tcp_pid;
$_->stop for $next, $far;
done_testing;
