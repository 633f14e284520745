#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# What the campaigns with faults at system calls have found, one short story each.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";
use Inject;
use Posthaste qw(slurp wait_until);
use Scene;
use Test::More;
use Time::HiRes qw(sleep);

if (my $why = Inject->unusable) {
	plan skip_all => $why;
}

sub worker_pid {
	my ($mta, $class) = @_;
	my ($w) = grep { $_->{class} eq $class } $mta->workers;
	return $w ? $w->{pid} : 0;
}

# A local worker delivered before its first journal file was there: nothing said so when it died, and
# all of it was delivered again.
my $s = Scene->new(calls => 'storage');
$s->start("class=local call=openat path=@{[ $s->spool ]} action=delay ms=1500");
$s->mail(messages => 5);
ok wait_until(sub { $s->inject->acted(1) }, 10), 'journal: its making is held up';
my @early = $s->mta->maildir_files('box');
kill 'KILL', worker_pid($s->mta, 'local');
ok wait_until(sub { $s->mta->maildir_files('box') >= 5 }, 20), 'journal: a new worker delivers';
my $v = $s->judge('journal');
is scalar(@early), 0, 'journal: nothing was delivered before it was there';
is scalar(@{ $v->{twice} }), 0, 'journal: nothing is delivered twice';

# With a journal that was there, a child could be told before the word of it was written: the worker
# that dies at that write must have delivered nothing.
$s = Scene->new(calls => 'storage');
$s->start;
$s->mail(messages => 1);
ok wait_until(sub { $s->mta->maildir_files('box') == 1 }, 10), 'write: a first one is delivered';
$s->inject->arm("class=local call=pwrite64,write path=@{[ $s->spool ]} action=kill");
$s->mail(messages => 5);
ok wait_until(sub { $s->inject->acted(1) }, 10), 'write: the worker dies at its first write';
ok wait_until(sub { $s->mta->maildir_files('box') >= 6 }, 20), 'write: a new worker delivers';
$v = $s->judge('write');
is scalar(@{ $v->{twice} }), 0, 'write: nothing is delivered twice';

# A worker whose "ready" did not get through was waited for, for ever.
$s = Scene->new(calls => 'net');
$s->start;
$s->inject->arm('id=1 class=deliver call=sendmsg action=error errno=ENOBUFS');
kill 'KILL', worker_pid($s->mta, 'deliver');
ok wait_until(sub { $s->inject->acted(1) }, 10), 'ready: is not sent';
ok wait_until(sub { $s->elapse(30); $s->ready(0.2) && grep { $_->{class} eq 'deliver' && $_->{state} eq 'up' } $s->mta->workers }, 20),
	'ready: another worker takes its place';
$s->judge('ready');

# A new supervisor that could not start took priv, and so the whole system, with it.
$s = Scene->new(calls => 'net');
$s->start;
$s->inject->arm('id=1 class=supervisor call=bind action=error errno=ENOMEM');
kill 'KILL', ($s->mta->command('posthaste', 'status'))[1] =~ /^pid (\d+)/m;
ok wait_until(sub { $s->kick; $s->inject->acted(1) }, 20), 'supervisor: the next one cannot start';
ok wait_until(sub { $s->kick; $s->ready(0.2) }, 20), 'supervisor: the one after that does';
cmp_ok $s->mail->{acked}, '>', 0, 'supervisor: mail is taken';
$s->judge('supervisor');

# What epoll refused to watch was only warned of, and never heard: the worker's child delivered, and
# the worker waited for its answer as long as it lived.
$s = Scene->new(calls => 'event');
$s->start;
$s->inject->arm('id=1 class=local call=epoll_ctl action=error errno=ENOSPC');
$s->mail;
ok wait_until(sub { $s->inject->acted(1) }, 10), 'epoll: a descriptor cannot be watched';
$s->judge('epoll');

# Word of a worker's end did not get from priv to the supervisor, which took it for alive.
$s = Scene->new(calls => 'net');
$s->start;
my $old = worker_pid($s->mta, 'deliver');
$s->inject->arm('id=1 class=priv call=sendmsg action=error errno=ENOBUFS');
kill 'KILL', $old;
ok wait_until(sub { $s->inject->acted(1) }, 10), 'exit: word of it does not get through at once';
ok wait_until(sub { $s->elapse(30); $s->ready(0.2) && (worker_pid($s->mta, 'deliver') || $old) != $old }, 10),
	'exit: another worker takes its place';
$s->judge('exit');
done_testing;
