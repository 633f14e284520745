#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Forbidden actions, tried from inside every process of a running system but priv. Built with
# --enable-fault-points, a process can be told to try each row of workers/common/evil_probe.inc: files,
# sockets, other processes, the kernel, its own rights. Each fails or is the end of the process, but
# for those that the table below says its work needs. The same actions in a system that gives up no
# rights show that the probe can succeed. Last, older kernels: with fewer or no file rules, and without
# system call filters, the log says what is lacking and mail flows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib", "$FindBin::Bin/../e2e/lib";

my $top;

BEGIN {
	$top = "$FindBin::Bin/../..";
	$ENV{POSTHASTE_BUILD} = $ENV{POSTHASTE_FAULT_BUILD} || "$top/build-fault";
}
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Posthaste qw(run_ok slurp spew wait_until);
use Prove;
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'needs root' if $> != 0;

my $c = Prove->new(name => '12-privileges', title => 'Forbidden actions');
if (!$ENV{POSTHASTE_FAULT_BUILD}) {
	my ($rc, $out) = run_ok("$top/scripts/build", '-t', 'all install t/bench/load t/bench/sink', 'build-fault',
		'--enable-fault-points', 'CFLAGS=-O1 -g');
	BAIL_OUT("the build with crash points failed: $out") if $rc;
}

my (@actions, %text);
my $rows = slurp("$top/workers/common/evil_probe.inc");
while ($rows =~ /^PROBE\((\w+), "([^"]*)"\)$/mg) {
	push @actions, $1;
	$text{$1} = $2;
}

# The order of enum worker_class; the child of local delivery comes after it.
my @kinds = qw(supervisor log resolver rewrite smtpd deliver local stats pickup lookup showq spawn auth verify saslclient agent);
my $probe_mode = 10;

# What a kind of process may do of this, and why.
my $spool = 'it keeps the spool';
my %needs = (
	supervisor => {
		read_secret => $spool, read_segment => $spool, list_spool => $spool, make_segment => $spool,
		make_journal => $spool, make_spool => $spool, rename_spool => $spool, unlink_spool => $spool,
	},
	rewrite => {
		read_segment => 'it loads messages', list_spool => 'it opens directories below it',
		make_segment => 'it makes segments', make_journal => 'it writes down outcomes',
	},
	deliver => {
		read_segment => 'it sends messages', make_journal => 'it writes down outcomes',
		tcp_connect => 'it delivers over TCP', tcp_bind => 'smtp_bind_address',
	},
	showq => { read_segment => 'it shows the queue' },
	resolver => { tcp_connect => 'long answers of name servers', udp_send => 'it asks name servers' },
	local => {
		become_root => 'its children become recipients', clone_process => 'it starts children',
		exec_program => 'a child is a program of its own', exec_file => 'and loads libraries',
		(map { $_ => 'mailboxes may be anywhere, and it acts as mail_owner meanwhile' } qw(list_root list_spool
			make_journal make_segment make_spool make_tmp read_conf read_passwd read_secret read_segment
			rename_spool)),
		tcp_connect => 'the user database may be a server', udp_send => 'the user database may be a server',
	},
	lookup => {
		tcp_connect => 'it asks databases', udp_send => 'and name servers where they are',
		read_passwd => 'its libraries read below /etc',
	},
	saslclient => {
		tcp_connect => 'plug-ins ask their servers', udp_send => 'and name servers where they are',
		read_passwd => 'its libraries read below /etc',
	},
	auth => {
		tcp_connect => 'it asks Dovecot, and plug-ins databases', udp_send => 'and name servers where they are',
		read_passwd => 'its libraries read below /etc',
	},
	agent => { make_mailbox => 'it delivers there' },
);

my $key_owner = 4242; # of the mailbox

sub page_write {
	my ($sys, $who, @wanted) = @_;
	my %w = map { $_ => 1 } @wanted;
	my $mta = $sys->{mta};
	my $page = pack 'L10', 0x4c495645, 0, $who, $probe_mode, 1, 0, 0, 0, 0, 0;
	my $sibling = $sys->{sibling}->($who);
	# to the supervisor all others are such
	$page .= pack 'L5', $sibling, $who == 0 ? $sibling : $mta->status->{pid} // 0, $mta->master_pid, $sys->{tcp}->sockport, 0;
	$page .= "\0" x (49 * 4);
	$page .= pack 'a200' x 5, "$mta->{dir}/spool", "$mta->{dir}/key.pem", $sys->{mailbox}, "$mta->{dir}/conf",
		"$mta->{dir}/spool/control/socket";
	$page .= pack 'C128', map { $w{ $actions[$_] // '' } ? 1 : 0 } 0 .. 127;
	$page .= pack 'l128', (0) x 128;
	open my $fh, '+<', $sys->{page} or die "$sys->{page}: $!";
	syswrite $fh, $page;
	sysseek $fh, 4, 0;
	syswrite $fh, pack 'L', 1;
	close $fh;
	return;
}

sub page_read { # taken, done, results
	my ($sys) = @_;
	my $page = slurp($sys->{page});
	my @r = unpack 'l128', substr $page, 60 + 49 * 4 + 1000 + 128;
	return (unpack('L', substr $page, 20, 4), unpack('L', substr $page, 56, 4), map { $actions[$_] => $r[$_] } 0 .. $#actions);
}

sub disarm {
	my ($sys) = @_;
	open my $fh, '+<', $sys->{page} or die "$sys->{page}: $!";
	sysseek $fh, 4, 0;
	syswrite $fh, pack 'L', 0;
	close $fh;
	return;
}

sub gone { my ($pid) = @_; return !-e "/proc/$pid" || slurp("/proc/$pid/stat") =~ /\) Z/ }

sub new_system {
	my (%env) = @_;
	my $mta = Posthaste->prepare(main => {
		relayhost => '[127.0.0.1]:9', virtual_mailbox_domains => 'box.test', virtual_mailbox_maps => 'static:all/',
		virtual_uid_maps => "static:$key_owner", virtual_gid_maps => "static:$key_owner", smtpd_workers => 3,
		rewrite_workers => 3, deliver_workers => 3, local_workers => 2, stop_drain_time => '5s', in_doubt_action => 'hold',
		smtpd_restriction_classes => 'verified', verified => 'reject_unverified_sender', # for which there is a verify worker
		smtpd_sender_login_maps => 'tcp:127.0.0.1:9', # a remote table, for which there is a lookup worker
		smtpd_sasl_auth_enable => 'yes',
		smtp_sasl_auth_enable => 'yes', smtp_sasl_password_maps => 'static:a:b', # ... and a saslclient worker
	});
	$mta->{refusals_wanted} = 1;
	$mta->{opt}{master} = "127.0.0.1:$mta->{port} inet n - n - - smtpd\npolicy unix - n n - 0 spawn user=games argv=/bin/cat\n";
	$mta->configure(virtual_mailbox_base => "$mta->{dir}/mail");
	chown $key_owner, $key_owner, "$mta->{dir}/mail";
	my $page = "$mta->{dir}/evil";
	spew($page, "\0" x 4096);
	chmod 0666, $page;
	spew("$mta->{dir}/key.pem", "-----BEGIN PRIVATE KEY-----\n");
	chmod 0600, "$mta->{dir}/key.pem";
	{
		local @ENV{ 'POSTHASTE_EVIL', keys %env } = ($page, values %env);
		$mta->launch;
	}
	my ($uid, $gid) = (getpwnam $mta->{owner})[2, 3];
	for my $name (qw(probe probe-unlink seg/probe)) {
		spew("$mta->{dir}/spool/$name", 'x' x 4096);
		chown $uid, $gid, "$mta->{dir}/spool/$name";
		chmod 0600, "$mta->{dir}/spool/$name";
	}
	my $sys = { mta => $mta, page => $page, mailbox => '',
		tcp => IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50),
		unix => IO::Socket::UNIX->new(Local => "\0posthaste-probe", Listen => 50) };
	$sys->{sibling} = sub {
		my ($who) = @_;
		my ($w) = grep { $_->{state} eq 'up' && $_->{class} ne $kinds[$who] } $mta->workers;
		return $w ? $w->{pid} : 0;
	};
	send_mail($sys);
	wait_until(sub { $mta->maildir_files('all') }, 10);
	($sys->{mailbox}) = $mta->maildir_files('all');
	return $sys;
}

sub send_mail {
	my ($sys) = @_;
	return eval {
		my $smtp = $sys->{mta}->smtp;
		$smtp->ok('EHLO x');
		$smtp->mail('a@load.test', 'r@box.test', "Subject: x\n\ny\n") =~ /^250/;
	};
}

# Has one process of the kind try some actions: a hash of what came of each.
sub try_some {
	my ($sys, $kind, @wanted) = @_;
	my ($who) = grep { $kinds[$_] eq $kind } 0 .. $#kinds;
	my $mta = $sys->{mta};
	my %got;
	my @left = @wanted;
	for (1 .. @wanted + 5) {
		last unless @left;
		# priv sleeps through the back-off of the supervisor by the real clock: it is woken to see the time
		my $wake = sub { $kind eq 'supervisor' && kill 'USR1', $mta->master_pid };
		wait_until(sub { $wake->(); sleep 0.1; ($mta->status->{ready} // 0) == 1 && $sys->{sibling}->($who) }, 15);
		page_write($sys, $who, @left);
		my $kick = sub { $kind eq 'agent' ? send_mail($sys) : $kind eq 'smtpd' ? eval { $mta->smtp } : $kind eq 'stats'
			? $mta->http('/healthz') : $wake->() };
		my $taken = 0;
		for (1 .. 8) {
			$kick->();
			last if $taken = wait_until(sub { (page_read($sys))[0] }, 2);
			$mta->advance(61);
		}
		if (!$taken) {
			disarm($sys);
			last;
		}
		wait_until(sub { (page_read($sys))[1] || gone($taken) }, 10);
		my (undef, undef, %r) = page_read($sys);
		$got{$_} = $r{$_} for grep { $r{$_} } @left;
		@left = grep { !$r{$_} } @left;
		$mta->advance(61) if @left; # back-off of short lives
	}
	return %got;
}

# ---- every kind of process, every action ----

my @ends = qw(handle_open fork_process ptrace_sibling vm_read vm_write pidfd_steal compare exec_program exec_at io_uring
	load_bpf fault_memory perf add_a_key key_control load_module kexec read_kernel_log set_clock set_hostname swap io_ports
	mount_tmpfs unmount open_a_tree pivot fanotify enter_space set_personality new_root new_net_space new_user_space
	make_device make_fifo);
my %ends = map { $_ => 1 } @ends;

my ($tried, %sum, @breaches, @stale);
my $sys = new_system();
for my $kind (@kinds) {
	# those that are the end come last: a process that lives on names in the log what it was refused
	my @first = grep { !$ends{$_} } @actions;
	my @last = $c->full ? @ends : $c->pick($kind =~ /^(?:smtpd|agent|stats)$/ ? 2 : 0, @ends);
	my @wanted = (@first, @last);
	my %got = (try_some($sys, $kind, @first), try_some($sys, $kind, @last));
	my @not = grep { !$got{$_} } @wanted;
	is "@not", '', "$kind: " . @wanted . ' actions are tried' or diag $sys->{mta}->log_tail;
	my $needs = $needs{$kind} || {};
	my (@bad, %n);
	for my $a (sort keys %got) {
		my $what = $got{$a} == 1 ? 'ended' : $got{$a} == 2 ? 'permitted' : 'refused';
		$n{$what}++;
		$sum{$what}++;
		$tried++;
		push @bad, "$a ($text{$a})" if $what eq 'permitted' && !defined $needs->{$a};
		push @stale, "$kind: $a" if $what ne 'permitted' && defined $needs->{$a};
		note "$kind: $a: " . ($got{$a} < 0 ? 'refused: ' . POSIX::strerror(-$got{$a}) : $what);
	}
	is join("\n", @bad), '', "$kind: nothing is permitted but what it needs ("
		. join(', ', map { "$n{$_} $_" } sort keys %n) . ')';
	push @breaches, @bad;
}
is join("\n", @stale), '', 'what the table says is needed is permitted';
ok $sys->{mta}->wait_log(qr/warning: system call filter: \w+ \(\d+\) refused, it is not on the list of /),
	'the log names calls that were refused';
cmp_ok scalar(() = $sys->{mta}->log =~ /panic:/g), '==', 0, 'nothing broke';
ok wait_until(sub { $sys->{mta}->advance(61); send_mail($sys) }, 10), 'mail is accepted afterwards';
is $sys->{mta}->stop, 0, 'stops as it should';

# ---- control: no rights are given up ----

{
	my $open = new_system(POSTHASTE_UNCAGED => 1);
	my @sure = grep { !/^(?:exec_at|own_board|handle_open|io_ports|load_bpf)$/ } @actions;
	my %got = try_some($open, 'rewrite', @sure);
	my @permitted = grep { ($got{$_} // 0) == 2 } @sure;
	my @not = grep { ($got{$_} // 0) != 2 } @sure;
	note 'control: ' . join ', ', map { "$_ " . ($got{$_} // 'not tried') } @not;
	cmp_ok scalar @permitted, '>=', 80, 'without the sandbox, at least 80 of ' . @sure . ' actions succeed';
	$c->control('the same in a system that gives up no rights', @permitted . ' of ' . @sure . ' succeed');
	my $mta = $open->{mta};
	kill 'QUIT', $mta->master_pid;
	wait_until(sub { !$mta->master_pid || !kill 0, $mta->master_pid }, 10);
	delete $mta->{running};
}

# ---- older kernels ----

my @older = ([ 'no file rules', { POSTHASTE_LANDLOCK => 0 }, qr/has no file rules for processes/ ],
	[ 'no filters', { POSTHASTE_NO_SECCOMP => 1 }, qr/has no system call filters/ ],
	[ 'neither', { POSTHASTE_LANDLOCK => 0, POSTHASTE_NO_SECCOMP => 1 }, qr/has no file rules.*has no system call filters/s ]);
my @lacks = (undef, qr/has no file rules/, qr/lack truncation, networks/, qr/lack networks/, qr/lack devices/, qr/lack scopes/);
push @older, map { [ "version $_ of the file rules", { POSTHASTE_LANDLOCK => $_ }, $lacks[$_] ] } 1 .. 5;
@older = @older[2, 5] if !$c->full;
for my $o (@older) {
	my ($name, $env, $says) = @$o;
	my $old = new_system(%$env);
	ok $old->{mailbox}, "$name: mail flows";
	like $old->{mta}->log, $says, "$name: the log says so";
	is $old->{mta}->stop, 0, "$name: stops";
}

$c->points($tried);
$c->figure('actions tried', $tried, scalar(@actions) . ' kinds of actions, ' . @kinds . ' kinds of processes');
$c->figure('refused', $sum{refused} || 0);
$c->figure('ended the process', $sum{ended} || 0);
$c->figure('permitted, needed for its work', ($sum{permitted} || 0) - @breaches);
$c->figure('permitted and not needed', scalar @breaches);
$c->figure('older kernels on which mail flows', scalar @older, 'file rules of versions 0 to 5, no filters');
$c->remark('priv has no code to be told what to try; doc/SECURITY.md lists its rights');
$c->done;
