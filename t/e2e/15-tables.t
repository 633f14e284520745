#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Lookup tables of a running system: every kind refuses and accepts what it says, a changed table is
# taken up without a reload, one that is broken changes nothing, and a half-edited main.cf is not
# taken along.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(spew wait_until);
use Test::More;

my $mta = Posthaste->prepare;
my $dir = "$mta->{dir}/conf";
spew("$dir/senders", "bad\@far.example\tREJECT not you\nrude.example 554 5.7.1 nor you\n");
spew("$dir/words",   "/^spam.*@(.*)\$/ REJECT spam from \$1\nif /^x/\n!/y/ REJECT no y\nendif\n");
spew("$dir/nets",    "127.0.0.0/8 OK\n0.0.0.0/0 REJECT\n");
spew("$dir/class",   "odd.example REJECT odd\n");
$mta->{opt}{main} = {
	smtpd_sender_restrictions => "check_sender_access hash:$dir/senders, "
		. "check_sender_access pcre:$dir/words, check_client_access cidr:$dir/nets",
	relayhost => '[127.0.0.1]:1',
};
$mta->configure;
my ($rc, $out) = $mta->command('postmap', "hash:$dir/senders");
is $rc, 0, 'postmap' or diag $out;
$mta->launch;

sub sender_gets {
	my ($sender) = @_;
	my $c = $mta->smtp;
	$c->ok('EHLO c.example');
	my $r = $c->cmd("MAIL FROM:<$sender>");
	$r = $c->cmd('RCPT TO:<r@far.example>') if $r =~ /^2/;
	$c->quit;
	return $r;
}

like sender_gets('good@far.example'), qr/^250 /, 'an ordinary sender';
like sender_gets('BAD@far.example'), qr/^554 5\.7\.1 <BAD\@far\.example>: Sender address rejected: not you/,
	'compiled table, key folded';
like sender_gets('x1@rude.example'), qr/^554 5\.7\.1 <x1\@rude\.example>: Sender address rejected: nor you/,
	'its domain';
like sender_gets('spammer@far.example'), qr/rejected: spam from far\.example/, 'pcre with a group';
like sender_gets('x2@far.example'), qr/rejected: no y/, 'pcre with if and !';
like sender_gets('xy@far.example'), qr/^250 /, 'pcre passes';

my $before = (sort map { $_->{generation} } $mta->workers)[-1];
spew("$dir/main.cf", Posthaste::slurp("$dir/main.cf") . "smtpd_banner = half edited \${\n");
spew("$dir/senders", "good\@far.example REJECT now you\n");
($rc, $out) = $mta->command('postmap', "hash:$dir/senders") ;
is $rc, 0, 'postmap with a type needs no main.cf' or diag $out;
ok wait_until(sub { sender_gets('good@far.example') =~ /rejected: now you/ }, 30),
	'the changed table is in use';
ok $mta->wait_log(qr/table \S+senders\.kch has changed -- restarting/), 'and the log says so';
$mta->configure;
ok wait_until(sub { my @w = $mta->workers; @w && !grep { $_->{generation} <= $before } @w }, 30),
	'new workers have taken over';
like sender_gets('bad@far.example'), qr/^250 /, 'the old table is not in use any more';
is $mta->status->{worker_restarts}, 0, 'no worker died';
unlike $mta->smtp->{banner}, qr/half edited/, 'nor was the edited main.cf looked at';

spew("$dir/words.new", "/^other/ REJECT other\n/(/ broken\n");
rename "$dir/words.new", "$dir/words";
ok wait_until(sub { sender_gets('other@far.example') =~ /rejected: other/ }, 30),
	'a text table with a broken rule works but for that rule';
ok wait_until(sub { sender_gets('spammer@far.example') =~ /^250 / }, 30), 'its old rules are gone';
ok $mta->wait_log(qr/words, line 2: error in regex at offset 1: .*skipping this rule/),
	'the broken rule is in the log';

# a table that is gone defers what needs it, is said once, and is taken up when it is back
my ($then) = sort { $b <=> $a } map { $_->{generation} } $mta->workers;
rename "$dir/words", "$dir/words.away";
is +($mta->command('posthaste', 'reload'))[0], 0, 'a reload without the table';
ok wait_until(sub { my @w = $mta->workers; @w && !grep { $_->{generation} <= $then } @w }, 30),
	'only new workers are left';
ok wait_until(sub { sender_gets('some@far.example') =~ /^451 4\.3\.[05] / }, 30), 'what needs it is deferred';
like sender_gets('some@far.example'), qr/^451 4\.3\.[05] /, 'each time' for 1 .. 3;
my ($smtpd) = map { $_->{pid} } grep { $_->{class} eq 'smtpd' } $mta->workers;
ok $mta->wait_log(qr/smtpd\[$smtpd\]: warning: table pcre:\S+words: cannot be asked/), 'a worker says it'
	or diag grep { /words/ } split /^/, $mta->log;
is $mta->count_log(qr/smtpd\[$smtpd\]: warning: table pcre:\S+words: cannot be asked: mail that needs it waits/), 1,
	'... once';
ok wait_until(sub { ($mta->http('/metrics') =~ /table_local_failures\D+ (\d+)/ ? $1 : 0) >= 3 }, 20), 'all of them are counted';
rename "$dir/words.away", "$dir/words";
ok wait_until(sub { sender_gets('other@far.example') =~ /rejected: other/ }, 30), 'it is back';
is $mta->stop, 0, 'stops';
done_testing;
