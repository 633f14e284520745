# SPDX-License-Identifier: GPL-3.0-or-later
# Starts the mail systems that scripts/bench compares, each in folders of its own, relaying to the
# sink: ours, and others out of their Debian packages, which are unpacked and not installed.
# A started one is { name, port, pid, stop, command, spool }.
package Systems;
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Peers;
use Posthaste qw(free_port slurp spew spawn wait_until run_ok);
use Time::HiRes qw(sleep);

# What all profiles give both: no limits that a load generator would run into.
my %common = (
	smtpd_client_connection_count_limit => 0,
	smtpd_recipient_limit => 1000,
	message_size_limit => 52428800,
	mailbox_size_limit => 0,
);

# before_start gets the instance, which is prepared and not started.
sub posthaste {
	my ($sink_port, $settings, $before_start) = @_;
	my $mta = Posthaste->prepare(main => {
		%common, relayhost => "[127.0.0.1]:$sink_port", %{ $settings || {} },
	});
	$before_start->($mta) if $before_start;
	$mta->launch;
	return {
		name => 'Posthaste', port => $mta->{port}, pid => $mta->master_pid, mta => $mta,
		spool => "$mta->{dir}/spool", conf => "$mta->{dir}/conf",
		stop => sub { $mta->stop },
		command => sub { $mta->command(@_) },
		queued => sub { $mta->status->{messages} },
		deferred => sub { ($mta->http("/stats") =~ /"queue":\s*\{[^}]*"deferred":\s*(\d+)/)[0] || 0 },
	};
}

my @postfix_dirs = qw(active bounce corrupt defer deferred flush hold incoming private maildrop
	public pid saved trace);

# Rights as "postfix set-permissions" gives them.
sub postfix_rights {
	my ($dir) = @_;
	my $uid = (getpwnam 'games')[2];
	my $gid = (getgrnam 'mail')[2];
	chown $uid, 0, "$dir/data", grep { !m{/(pid)$} } glob "$dir/q/*";
	chown $uid, $gid, "$dir/q/maildrop", "$dir/q/public";
	chmod 0730, "$dir/q/maildrop";
	chmod 0710, "$dir/q/public";
	chmod 0700, map { "$dir/q/$_" } qw(private active incoming deferred defer bounce);
	return;
}

sub postfix {
	my ($sink_port, $settings) = @_;
	my $peers = Posthaste::build_dir() . '/peers';
	system(Posthaste::top() . '/scripts/peers', $peers, 'postfix') == 0 or return;
	my $p = abs_path("$peers/postfix");
	my $dir = tempdir('posthaste-peer-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	chmod 0755, $dir;
	my $port = free_port();
	make_path("$dir/conf", "$dir/data", map { "$dir/q/$_" } @postfix_dirs);
	my %main = (
		%common,
		compatibility_level => '3.6',
		queue_directory => "$dir/q",
		data_directory => "$dir/data",
		daemon_directory => "$p/usr/lib/postfix/sbin",
		command_directory => "$p/usr/sbin",
		shlib_directory => "$p/usr/lib/postfix",
		meta_directory => "$p/etc/postfix",
		mail_owner => 'games',
		setgid_group => 'mail',
		myhostname => 'peer.posthaste.test',
		mydestination => '',
		mynetworks => '127.0.0.0/8',
		inet_interfaces => '127.0.0.1',
		inet_protocols => 'ipv4',
		relayhost => "[127.0.0.1]:$sink_port",
		smtpd_peername_lookup => 'no',
		maillog_file => "$dir/maillog",
		maillog_file_prefixes => $dir,
		alias_maps => '',
		local_recipient_maps => '',
		smtp_tls_security_level => 'none',
		in_flow_delay => 0,
		import_environment => 'MAIL_CONFIG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME '
			. 'LD_LIBRARY_PATH LD_PRELOAD SLOW_SYNC_US',
		%{ $settings || {} },
	);
	spew("$dir/conf/main.cf", join '', map { "$_ = $main{$_}\n" } sort keys %main);
	my $master = slurp("$p/usr/share/postfix/master.cf.dist");
	$master =~ s/^#(tlsproxy\s+unix)/$1/m; # keeps connections with TLS
	$master =~ s/^#.*\n//mg;
	$master =~ s/^smtp(\s+inet)/127.0.0.1:$port$1/m;
	$master =~ s/^([\w.:]+\s+\S+\s+\S+\s+\S+\s+)\S+(\s)/$1n$2/mg; # no chroot
	spew("$dir/conf/master.cf", $master);
	postfix_rights($dir);
	local $ENV{LD_LIBRARY_PATH} = "$p/usr/lib/postfix:$p/usr/lib/x86_64-linux-gnu";
	my $pid = spawn("$dir/out", "$p/usr/lib/postfix/sbin/master", '-c', "$dir/conf", '-d');
	wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }, 15) or return;
	sleep 0.5;
	return {
		name => 'Postfix', port => $port, pid => $pid, spool => "$dir/q", conf => "$dir/conf",
		stop => sub { Posthaste::end_child($pid) },
		command => sub {
			my ($name, @args) = @_;
			local $ENV{LD_LIBRARY_PATH} = "$p/usr/lib/postfix:$p/usr/lib/x86_64-linux-gnu";
			local $ENV{MAIL_CONFIG} = "$dir/conf";
			return run_ok("$p/usr/sbin/$name", '-c', "$dir/conf", @args);
		},
		queued => sub {
			my @files = map { glob "$dir/q/$_" } qw(incoming/* active/* deferred/*/*);
			return scalar @files;
		},
		deferred => sub { scalar(() = glob "$dir/q/deferred/*/*") },
	};
}

# Only its rate can be had: its deliveries are not below it in the process tree.
sub exim {
	my ($sink_port) = @_;
	return if Peers->obstacle;
	my $exim = Peers->exim(home => 'exim.test', next => $sink_port,
		main => "smtp_accept_max = 300\nsmtp_accept_max_per_connection = 0\n"
			. "smtp_accept_queue_per_connection = 0\nrecipients_max = 1000\n") or return;
	return { name => 'Exim', port => $exim->{port}, pid => $exim->{pid}, stop => sub { $exim->stop } };
}

1;
