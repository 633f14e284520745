#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Debian's logwatch and pflogsumm read the lines of commands, pipes, aliases, deferred transports, probes and services of
# their own names without meeting one they do not know.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Peers;
use Posthaste qw(free_port run_ok spew wait_until);
use Test::More;

plan skip_all => 'needs root' if $> != 0;
my $unpacked = Peers::unpacked('consumers') or plan skip_all => 'the packages cannot be downloaded';
my $hop = Posthaste->recorder;
my ($port, $policy) = (free_port(), free_port());
my $mta = Posthaste->prepare(port => $port, main => { relayhost => "[127.0.0.1]:$hop->{port}", mydestination => 'home.test', smtpd_session_limit => 1000,
	defer_transports => 'slow', default_privs => 'games', local_recipient_maps => '', delay_warning_time => '1h', myorigin => 'home.test',
	transport_maps => "inline:{{good.test = good:}, {bad.test = bad:}, {late.test = slow:[127.0.0.1]:$hop->{port}}, {void.test = discard:}}" }, master => <<"EOF");
127.0.0.1:$port inet n - n - - smtpd
    -o syslog_name=postfix/submission
good unix - n n - - pipe user=games argv=/bin/cat
bad unix - n n - - pipe user=games argv=/bin/sh -c {echo went wrong; exit 69}
slow unix - - n - - smtp
127.0.0.1:$policy inet n n n - 0 spawn user=games argv=/bin/false
EOF
spew("$mta->{dir}/conf/aliases", "run \"|cat >/dev/null\"\nfails \"|exit 67\"\naway a\@far.test\n");
$mta->configure(alias_maps => "texthash:$mta->{dir}/conf/aliases");
$mta->launch;
my $smtp = $mta->smtp;
$smtp->ok('EHLO x.test');
my %id = map { ($_ => ($smtp->mail('s@x.test', $_, "Subject: x\n\ntext") =~ /queued as (\S+)/)[0]) }
	qw(r@good.test r@bad.test r@late.test r@void.test run@home.test fails@home.test away@home.test r@far.test);
$smtp->quit;
my $silent = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$policy");
ok $mta->wait_log(qr/spawn\[\d+\]: warning: command \/bin\/false exit status 1$/m), 'a command of a service failed' if $silent;
ok $mta->wait_log(qr/$id{$_}: to=/), "$_ was tried" or diag $mta->log_tail for sort keys %id;
my @args = ('-C', "$mta->{dir}/conf", '-f', 's@x.test');
is((run_ok('sh', '-c', 'printf "Subject: v\n\nx\n" | "$0" "$@" -XV+= a@far.test b@far.test', Posthaste::prefix() . '/sbin/sendmail', @args))[0], 0, 'VERP');
is((run_ok('sh', '-c', 'printf "Subject: v\n\nx\n" | "$0" "$@" -bv c@far.test', Posthaste::prefix() . '/sbin/sendmail', @args))[0], 0, 'a probe');
ok $mta->wait_log(qr/to=<c\@far\.test>.*status=deliverable/), 'it is deliverable' or diag $mta->log_tail;
ok $mta->wait_log(qr/from=<s\+b=far\.test\@x\.test>|to=<b\@far\.test>.*status=sent/), 'VERP mail went' or diag $mta->log_tail;
is(($mta->command('postqueue', '-f'))[0], 0, 'flush');
ok wait_until(sub { $mta->status->{messages} == 0 }, 30), 'nothing is left' or diag $mta->log_tail;
is $mta->stop, 0, 'stop';
is $mta->crashes, '', 'nothing crashed';
my $log = "$mta->{dir}/log";
my ($rc, $out) = run_ok('sh', '-c', "exec $^X $unpacked/usr/share/logwatch/scripts/services/postfix --detail 10 --long_queue_ids <'$log'");
is $rc, 0, 'logwatch runs' or diag $out;
my ($unmatched) = $out =~ /\*\*Unmatched Entries\*\*\n(.*)/s;
is $unmatched // '', '', 'logwatch: no unknown line';
($rc, $out) = run_ok($^X, "$unpacked/usr/sbin/pflogsumm", '--verbose-msg-detail', $log);
is $rc, 0, 'pflogsumm runs';
my $bounced = $mta->count_log(qr/status=bounced/);
is $bounced, 2, 'two bounced, by a pipe and an alias\'s command';
like $out, qr/^\s*$bounced\s+bounced\b/m, 'pflogsumm: what bounced' or diag $mta->log =~ s/^(?!.*status=bounced).*\n//mgr;
done_testing;
