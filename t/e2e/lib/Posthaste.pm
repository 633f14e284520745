# SPDX-License-Identifier: GPL-3.0-or-later
# End-to-end stories: starts real instances on loopback, in directories of their own, and looks at
# what comes out. Every process started here is ended here, by pid.
#
#   my $mta = Posthaste->start(main => { relayhost => "[127.0.0.1]:$port" });
#   my $smtp = $mta->smtp; $smtp->ok("EHLO x"); ...
#   $mta->wait_log(qr/status=sent/); $mta->stop;
package Posthaste;
use strict;
use warnings;
no warnings 'exec'; # what follows an exec is for when it failed
use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_RCVTIMEO);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);
use Exporter qw(import);
our @EXPORT_OK = qw(free_port build_dir run_ok slurp spew wait_until spawn json_get);

my $top   = abs_path(dirname(__FILE__) . '/../../..');
my $build = $ENV{POSTHASTE_BUILD} || "$top/build";
my (%children, @instances);
my $owner = $$;

# A test that is ended from outside still ends what it started.
$SIG{$_} = sub { exit 1 } for qw(TERM INT HUP);
# Tools and workers end without freeing everything.
$ENV{ASAN_OPTIONS} ||= 'detect_leaks=0:abort_on_error=1';

# A forked child that goes on with a story of its own: what it starts from here on is its to end.
sub on_my_own {
	($owner, @instances) = ($$);
	%children = ();
	return;
}

sub top { $top }
sub build_dir { $build }
sub prefix { "$build/inst" }

sub slurp {
	my ($path) = @_;
	open my $fh, '<', $path or return '';
	local $/;
	my $text = <$fh>;
	return defined $text ? $text : '';
}

sub spew {
	my ($path, $text) = @_;
	open my $fh, '>', $path or croak "$path: $!";
	print $fh $text;
	close $fh or croak "$path: $!";
}

# A port that nobody listens on now. Kept apart from the range clients are given (32768 and up).
# POSTHASTE_PORTS=FIRST-LAST: those of this story alone.
my ($first_port, $last_port) = ($ENV{POSTHASTE_PORTS} || '10000-30000') =~ /^(\d+)-(\d+)$/;
my $next_port = $first_port + ($$ * 37) % ($last_port - $first_port + 1);
sub free_port {
	for (1 .. 500) {
		my $port = $next_port++;
		$next_port = $first_port if $next_port > $last_port;
		my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port,
			Proto => 'tcp', Listen => 1, ReuseAddr => 1) or next;
		close $s;
		return $port;
	}
	croak 'no free port';
}

# Poll until the condition holds; the time bound is generous because machines are slow at times.
sub wait_until {
	my ($cond, $seconds) = @_;
	my $end = time + ($seconds || 20);
	while (time < $end) {
		my $v = $cond->();
		return $v if $v;
		sleep 0.02;
	}
	return $cond->();
}

# Start a program in the background; stdout to a file when given. Returns the pid.
sub spawn {
	my ($out, @cmd) = @_;
	my $pid = fork;
	croak "fork: $!" unless defined $pid;
	if (!$pid) {
		open STDIN, '<', '/dev/null';
		if (defined $out) {
			open STDOUT, '>', $out or POSIX::_exit(71);
		}
		exec { $cmd[0] } @cmd or POSIX::_exit(71);
	}
	$children{$pid} = 1;
	return $pid;
}

sub end_child {
	my ($pid, $sig) = @_;
	return unless delete $children{$pid};
	kill $sig || 'TERM', $pid;
	for (1 .. 500) {
		return $? if waitpid($pid, WNOHANG) != 0;
		sleep 0.02;
	}
	kill 'KILL', $pid;
	waitpid $pid, 0;
	return $?;
}

# True when a child has ended; it is reaped later.
sub has_ended {
	my ($pid) = @_;
	return slurp("/proc/$pid/stat") =~ /\) Z /;
}

sub wait_child {
	my ($pid) = @_;
	delete $children{$pid};
	waitpid $pid, 0;
	return $?;
}

sub run_ok {
	my (@cmd) = @_;
	my $pid = open my $fh, '-|';
	croak "fork: $!" unless defined $pid;
	if (!$pid) {
		open STDERR, '>&', \*STDOUT;
		exec { $cmd[0] } @cmd or POSIX::_exit(71);
	}
	local $/;
	my $out = <$fh>;
	close $fh;
	return wantarray ? ($? >> 8, defined $out ? $out : '') : $? == 0;
}

# The command to put before one that wants to mount file systems: it runs in a mount namespace of its own.
# An ordinary user keeps his number and gets a user namespace around it; empty when the kernel allows none.
sub mount_namespace {
	my @cmd = ('unshare', '-m', $> == 0 ? () : qw(-U --map-current-user --keep-caps));
	return run_ok(@cmd, 'true') ? @cmd : ();
}

# Without mount(8), which believes in root alone.
sub mount_tmpfs {
	my ($at, $size) = @_;
	my $number = { x86_64 => 165, aarch64 => 40 }->{ (POSIX::uname())[4] } or return 0;
	my ($fs, $data) = ('tmpfs', "size=$size");
	return syscall($number, $fs, $at, $fs, 0, $data) == 0;
}

# A sink that judges what t/bench/load sent (t/bench/sink.c).
sub sink {
	my ($class, %opt) = @_;
	my $dir  = tempdir('posthaste-sink-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $port = $opt{port} || free_port();
	my @args = @{ $opt{args} || [] };
	my $pid  = spawn("$dir/json", "$build/t/bench/sink", '-o', "$dir/ids", @args,
		"0.0.0.0:$port");
	wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }, 10)
		or croak 'the sink does not listen';
	return bless { port => $port, pid => $pid, dir => $dir }, 'Posthaste::Sink';
}

# A next hop that keeps what it is told, and answers as it is asked to (recorder.pl). It listens on
# a port of its own, unless the first argument is ADDRESS:PORT.
sub recorder {
	my ($class, @args) = @_;
	my $dir  = tempdir('posthaste-recorder-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $port = @args && $args[0] =~ /^[\d.]+:\d+$/ ? shift @args : free_port();
	my $pid  = spawn("$dir/out", $^X, "$top/t/e2e/lib/recorder.pl", $port, "$dir/got", @args);
	wait_until(sub { -e "$dir/got.ready" }, 10) or croak 'the recorder does not listen';
	return bless { port => $port, pid => $pid, file => "$dir/got" }, 'Posthaste::Recorder';
}

# Run the generator to its end; returns the JSON report as a hash.
sub load {
	my ($class, @args) = @_;
	my ($rc, $out) = run_ok("$build/t/bench/load", @args);
	croak "load failed: $out" if $rc;
	return parse_json($out);
}

# Numbers and strings of one flat JSON object.
sub parse_json {
	my ($text) = @_;
	my %h;
	while ($text =~ /"(\w+)":\s*("(?:[^"\\]|\\.)*"|[-\d.eE+]+|true|false|null)/g) {
		my ($k, $v) = ($1, $2);
		$v =~ s/^"(.*)"$/$1/s;
		$h{$k} = $v;
	}
	return \%h;
}

sub start {
	my ($class, %opt) = @_;
	my $self = $class->prepare(%opt);
	$self->launch;
	return $self;
}

# Directories and configuration, not started.
sub prepare {
	my ($class, %opt) = @_;
	my $dir = tempdir('posthaste-XXXXXX', TMPDIR => 1);
	chmod 0755, $dir;
	my $self = bless { dir => $dir, port => $opt{port} || free_port(), stats => free_port(),
		opt => \%opt }, $class;
	push @instances, $self;
	make_path("$dir/conf", "$dir/mail");
	if ($> == 0) {
		my ($uid, $gid) = (getpwnam 'nobody')[2, 3];
		chown $uid, $gid, "$dir/mail";
		$self->{owner} = 'nobody';
	} else {
		$self->{owner} = (getpwuid $>)[0];
	}
	spew("$dir/clock", pack('q', 0) . "\0" x 4088);
	chmod 0644, "$dir/clock";
	$self->configure;
	return $self;
}

sub configure {
	my ($self, %main) = @_;
	my ($opt, $dir) = ($self->{opt}, $self->{dir});
	my %p = (
		queue_directory  => "$dir/spool",
		data_directory   => "$dir/data",
		daemon_directory => prefix() . '/libexec/posthaste',
		command_directory => prefix() . '/sbin',
		mail_owner       => $self->{owner},
		myhostname       => 'mx.posthaste.test',
		mydestination    => '',
		alias_maps       => '', # /etc/aliases is the machine's
		mynetworks       => '127.0.0.0/8',
		inet_interfaces  => '127.0.0.1',
		inet_protocols   => 'ipv4',
		maillog_file     => "$dir/log",
		stats_listen     => "127.0.0.1:$self->{stats}",
		resolver_trust_anchor_file => '', # zones of tests are not signed from the root
		smtpd_peername_lookup => 'no',
		queue_minfree    => 0,
		%{ $opt->{main} || {} },
		%main,
	);
	spew("$dir/conf/main.cf", join '', map { "$_ = $p{$_}\n" } sort keys %p);
	spew("$dir/conf/master.cf", $opt->{master} ||
		"127.0.0.1:$self->{port} inet n - n - - smtpd\n");
	return;
}

# An instance that was made elsewhere ends with this process, too. It has at least dir, conf and stats.
sub keep { push @instances, @_; return }

sub conf { my ($self) = @_; return $self->{conf} // "$self->{dir}/conf" }

sub command {
	my ($self, $name, @args) = @_;
	local $ENV{POSTHASTE_CLOCK} = "$self->{dir}/clock";
	local $ENV{POSTHASTE_STDERR} = "$self->{dir}/stderr";
	return run_ok(prefix() . "/sbin/$name", '-c', $self->conf, @args);
}

# The same in the background; its pid.
sub command_begin {
	my ($self, $name, @args) = @_;
	local $ENV{POSTHASTE_CLOCK} = "$self->{dir}/clock";
	local $ENV{POSTHASTE_STDERR} = "$self->{dir}/stderr";
	return spawn("$self->{dir}/command.out", '/bin/sh', '-c', 'exec "$0" "$@" 2>&1', prefix() . "/sbin/$name",
		'-c', $self->conf, @args);
}

# What sanitizers (builds with --enable-asan) found in this instance. Workers are locked in and see
# no symbols, so names are added here. Returns the number of new reports.
sub sanitizer_reports {
	my ($self) = @_;
	my $text = substr slurp("$self->{dir}/stderr"), $self->{stderr_seen} || 0;
	$self->{stderr_seen} += length $text;
	my $n = () = $text =~ /ERROR: \w+Sanitizer|runtime error:|ERROR: Can't open/g;
	return 0 unless $n;
	my @lines = split /\n/, $text;
	for my $line (@lines > 60 ? @lines[0 .. 59] : @lines) {
		my $where = $line =~ /\((\/\S+)\+(0x[0-9a-f]+)\)/ ? `addr2line -se $1 $2 2>&1` : '';
		chomp $where;
		print STDERR "# $line $where\n";
	}
	return $n;
}

# System calls that the filter refused a process: a hole in its list, whatever else the story is
# about. Returns the number of lines of the log. A story that does forbidden things sets
# $self->{refusals_wanted}.
sub refusals {
	my ($self) = @_;
	return 0 if $self->{refusals_wanted};
	my @lines = grep { /system call filter: .* refused/ } split /\n/, $self->log;
	print STDERR "# $_\n" for @lines;
	return scalar @lines;
}

# Programs as they are, but one of them started with so few descriptors; before launch().
sub limit_files {
	my ($self, $program, $most) = @_;
	my $dir = "$self->{dir}/programs";
	make_path($dir);
	symlink $_, "$dir/" . ($_ =~ s{.*/}{}r) for glob prefix() . '/libexec/posthaste/*';
	unlink "$dir/$program";
	spew("$dir/$program", "#!/bin/sh\nulimit -n $most\nexec " . prefix() . "/libexec/posthaste/$program \"\$@\"\n");
	chmod 0755, "$dir/$program";
	$self->configure(daemon_directory => $dir);
	return;
}

sub launch {
	my ($self) = @_;
	my ($rc, $out) = $self->command('posthaste', 'start');
	croak "start failed: $out\n" . $self->log_tail if $rc;
	$self->{running} = 1;
	return;
}

sub stop {
	my ($self) = @_;
	return 0 unless delete $self->{running};
	my ($rc, $out) = $self->command('posthaste', 'stop');
	warn $out if $rc;
	return $rc || $self->sanitizer_reports;
}

sub log { return slurp("$_[0]{dir}/log") }

# The end of the log, for diagnostics: whole logs are long.
sub log_tail {
	my ($self) = @_;
	my @lines = split /\n/, $self->log;
	splice @lines, 0, @lines - 15 if @lines > 15;
	return join "\n", @lines, '';
}

# Lines that tell of a crash, or of a system call that a process needs and may not make; '' when
# there are none.
sub crashes {
	my ($self) = @_;
	return join "\n", grep { /panic:|killed by signal|warning: process|broke the protocol|system call filter:/ } split /\n/, $self->log;
}

sub wait_log {
	my ($self, $re, $seconds) = @_;
	my $found = wait_until(sub { my $l = $self->log; $l =~ $re ? [ $1 // $& ] : undef }, $seconds);
	return $found ? $found->[0] : undef;
}

sub count_log {
	my ($self, $re) = @_;
	my $n = () = $self->log =~ /$re/g;
	return $n;
}

# Let time pass for every process of the instance.
sub advance {
	my ($self, $seconds) = @_;
	$self->{skew_ms} += int($seconds * 1000);
	return $self->set_clocks;
}

# Somebody sets the wall clock; no time passes.
sub jump {
	my ($self, $seconds) = @_;
	$self->{wall_skew_ms} += int($seconds * 1000);
	return $self->set_clocks;
}

# What the instance takes for the time.
sub wall { my ($self) = @_; return time + (($self->{skew_ms} || 0) + ($self->{wall_skew_ms} || 0)) / 1000 }

sub set_clocks {
	my ($self) = @_;
	open my $fh, '+<', "$self->{dir}/clock" or croak "clock: $!";
	syswrite $fh, pack('qq', $self->{skew_ms} || 0, $self->{wall_skew_ms} || 0);
	close $fh;
	return;
}

sub smtp {
	my ($self, $port, @from) = @_;
	return Posthaste::Client->new($port || $self->{port}, @from);
}

# Worker processes: list of { class, slot, life, pid, generation, state }.
sub workers {
	my ($self) = @_;
	my ($rc, $out) = $self->command('posthaste', 'status');
	my @w;
	while ($out =~ /^worker (\S+) (\d+) (\d+) (\d+) (\d+) (\S+)$/mg) {
		push @w, { class => $1, slot => $2, life => $3, pid => $4, generation => $5, state => $6 };
	}
	return @w;
}

sub status {
	my ($self) = @_;
	my ($rc, $out) = $self->command('posthaste', 'status');
	my %s = $out =~ /^(\w+) (\d+)$/mg;
	return \%s;
}

sub master_pid {
	my ($self) = @_;
	my ($pid) = slurp("$self->{dir}/spool/pid/master.pid") =~ /(\d+)/;
	return $pid;
}

# kill -9 of every process of the instance, the privileged one last so that it restarts nothing.
sub crash {
	my ($self) = @_;
	my $master = $self->master_pid or croak 'not running';
	kill 'STOP', $master;
	my @pids = grep { $_ } map { /(\d+)/ ? $1 : () } slurp("/proc/$master/task/$master/children") =~ /\d+/g;
	kill 'KILL', @pids, $master;
	wait_until(sub { !kill 0, $master }, 10);
	for my $p (@pids) {
		wait_until(sub { !-e "/proc/$p" || slurp("/proc/$p/stat") =~ /\) Z / }, 10);
	}
	delete $self->{running};
	return;
}

sub http {
	my ($self, $path) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{stats}", Timeout => 10) or return '';
	setsockopt $s, SOL_SOCKET, SO_RCVTIMEO, pack('l!l!', 10, 0);
	print $s "GET $path HTTP/1.0\r\nHost: localhost\r\n\r\n";
	local $/;
	my $out = <$s>;
	return defined $out ? $out : '';
}

sub maildir_files {
	my ($self, $path) = @_;
	my @files = glob "$self->{dir}/mail/$path/new/*"; # glob alone would iterate in scalar context
	return @files;
}

END {
	my $status = $?;
	# a child that is ended before its exec has nothing to clean up
	@instances = %children = () if $$ != $owner;
	for my $i (@instances) {
		if ($i->{running}) {
			my $master = $i->master_pid;
			if ($status && $ENV{POSTHASTE_KEEP}) {
				warn "kept: $i->{dir}\n";
			}
			kill 'QUIT', $master if $master;
			wait_until(sub { !kill 0, $master }, 10) if $master;
		}
		$status ||= 1 if $i->sanitizer_reports + $i->refusals;
		remove_tree($i->{dir}) unless $status && $ENV{POSTHASTE_KEEP};
	}
	for my $pid (keys %children) {
		kill 'KILL', $pid;
		waitpid $pid, 0;
	}
	$? = $status;
}

package Posthaste::Recorder;
use strict;
use warnings;

sub got { return Posthaste::slurp($_[0]{file}) }
sub stop { return Posthaste::end_child($_[0]{pid}) }

package Posthaste::Sink;
use strict;
use warnings;

# End it; returns its report, and keeps what it received.
sub finish {
	my ($self) = @_;
	Posthaste::end_child($self->{pid});
	$self->{report} = Posthaste::parse_json(Posthaste::slurp("$self->{dir}/json"));
	return $self->{report};
}

# Begin the time of its report anew.
sub restart { my ($self) = @_; return kill 'USR1', $self->{pid} }

# Its report so far.
sub progress {
	my ($self) = @_;
	my $seen = length Posthaste::slurp("$self->{dir}/json");
	my $text;
	kill 'USR2', $self->{pid};
	Posthaste::wait_until(sub {
		$text = substr Posthaste::slurp("$self->{dir}/json"), $seen;
		return $text =~ /\n\z/;
	}, 10);
	return Posthaste::parse_json($text);
}

# { "ID RECIPIENT" => times } of what was accepted; after finish().
sub received {
	my ($self) = @_;
	my %got;
	$got{$_}++ for split /\n/, Posthaste::slurp("$self->{dir}/ids");
	return \%got;
}

package Posthaste::Client;
use strict;
use warnings;
use IO::Socket::INET;
use Carp qw(croak);

sub new {
	my ($class, $port, @from) = @_; # @from: the address to come from
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 20,
		map { (LocalAddr => $_) } @from)
		or croak "connect to $port: $!";
	$s->autoflush(1);
	my $self = bless { sock => $s }, $class;
	$self->{banner} = $self->reply;
	return $self;
}

sub send_raw { my ($self, $text) = @_; print { $self->{sock} } $text; return }

# One reply, all its lines, without the last CRLF; undef when the connection ended.
sub reply {
	my ($self) = @_;
	my $text = '';
	local $SIG{ALRM} = sub { die "no reply within 30 s\n" };
	alarm 30;
	while (defined(my $line = readline $self->{sock})) {
		$text .= $line;
		if ($line =~ /^\d{3}(?: |\r?$)/) {
			alarm 0;
			$text =~ s/\r\n\z//;
			return $text;
		}
	}
	alarm 0;
	return $text eq '' ? undef : $text;
}

sub cmd { my ($self, $line) = @_; $self->send_raw("$line\r\n"); return $self->reply }

sub ok {
	my ($self, $line) = @_;
	my $r = $self->cmd($line);
	croak "$line: " . ($r // 'connection ended') unless defined $r && $r =~ /^[23]/;
	return $r;
}

# One message; returns the final reply.
sub mail {
	my ($self, $from, $to, $content) = @_;
	$self->ok("MAIL FROM:<$from>");
	$self->ok("RCPT TO:<$_>") for ref $to ? @$to : $to;
	$self->ok('DATA');
	$content =~ s/\r?\n/\r\n/g;
	$content =~ s/^\./../mg;
	$self->send_raw("$content\r\n.\r\n");
	return $self->reply;
}

sub quit { my ($self) = @_; my $r = $self->cmd('QUIT'); close $self->{sock}; return $r }

1;
