# SPDX-License-Identifier: GPL-3.0-or-later
# One of the mail systems of t/systems, running: its main.cf and master.cf word for word, with its own ports, paths, users
# and host names, in a network, a name space of files and a DNS of its own; and an account of which of its settings a
# story has seen to act.
#
#   use MailSystem;    # first: the story goes on in namespaces of its own, or is skipped
#   my $sys = MailSystem->new('mailcow', own => { ... }, files => { '/etc/postfix/tables/x' => "..." }, zone => $records,
#       users => ['vmail:5000'], hosts => { dovecot => '127.0.0.1' });
#   $sys->milter(9900, "EOM addheader X-Milter yes\n"); ... $sys->launch;
#   my $c = $sys->client(port => 587, from => '203.0.113.9', tls => 'start'); $c->login('joe@a.test', 'good');
#   $sys->saw('smtpd_banner submission:smtpd_tls_security_level', $c->{banner}, qr/^220 .../, 'what was looked at');
#   $sys->unseen(biff => 'why nothing can be seen'); $sys->account;
#
# The machine is 192.0.2.25/24 and 2001:db8::25/64. 198.51.100.0/24, 203.0.113.0/24 and 2001:db8:1::/48 are the rest of
# the world, a network of its own behind a cable: every port of every address is free there, for clients and next hops.
# /mnt holds all files; /etc, /usr and /var look as they do outside and may be written to; /run and /dev/shm are empty.
package MailSystem;
use strict;
use warnings;
no warnings 'exec';
use Carp qw(croak);
use Certs;
use File::Basename qw(dirname);
use File::Path qw(make_path);
use IO::Socket::INET;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();
use Posthaste qw(slurp spew spawn wait_until run_ok);
use Servers;
use Test::More ();
our @ISA = ('Posthaste');

my $inside = $ENV{POSTHASTE_MAIL_SYSTEM};
my $set_ns = { x86_64 => 308, aarch64 => 268 }->{ (POSIX::uname())[4] };
my ($home_net, $world_net, $world); # open namespaces of networks; the process that holds the world

sub obstacle {
	return 'needs root: users, mounts and ports of its own' if $> != 0;
	my ($rc) = run_ok('unshare', '-m', '-n', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt && mkdir /mnt/u /mnt/w && ' .
		'mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc && ' .
		'ip link add inet0 type veth peer name inet1');
	return 'needs mount and network namespaces, overlayfs and ip' if $rc;
	return $set_ns ? undef : 'does not know how this processor names a namespace';
}

sub import {
	return if $inside;
	my $why = obstacle();
	Test::More::plan(skip_all => $why) if $why;
	$ENV{POSTHASTE_MAIL_SYSTEM} = 1;
	exec 'unshare', '-m', '-n', $^X, $0, @ARGV or die "unshare: $!";
}

sub sh {
	my ($text) = @_;
	my ($rc, $out) = run_ok('sh', '-ec', $text);
	croak "$text: $out" if $rc;
	return;
}

sub network {
	$world = spawn(undef, 'unshare', '-n', 'sleep', '100000');
	my $own = readlink "/proc/$$/ns/net";
	wait_until(sub { (readlink("/proc/$world/ns/net") // $own) ne $own }, 30) or croak 'no second network';
	open $home_net, '<', "/proc/$$/ns/net" or croak $!;
	open $world_net, '<', "/proc/$world/ns/net" or croak $!;
	sh("ip link set lo up; ip link add inet0 type veth peer name inet1 netns $world; ip link set inet0 up; " .
		'ip addr add 192.0.2.25/24 dev inet0; ip route add default via 192.0.2.1; ' .
		'ip -6 addr add 2001:db8::25/64 dev inet0 nodad && ip -6 route add default via 2001:db8::1 || :');
	in_world(sub {
		sh('ip link set lo up; ip link set inet1 up; ip addr add 192.0.2.1/24 dev inet1; ip route add local 203.0.113.0/24 dev lo; ' .
			'ip route add local 198.51.100.0/24 dev lo; ip -6 addr add 2001:db8::1/64 dev inet1 nodad && ' .
			'ip -6 route add local 2001:db8:1::/48 dev lo || :');
	});
	return;
}

# Sockets that are made meanwhile, and processes, are the world's.
sub in_world {
	my ($do) = @_;
	syscall($set_ns, fileno $world_net, 0) == 0 or croak "setns: $!";
	my @result = eval { $do->() };
	my $error = $@;
	syscall($set_ns, fileno $home_net, 0) == 0 or croak "setns: $!";
	die $error if $error;
	return wantarray ? @result : $result[0];
}

# Whether an address is the world's; 192.0.2.1 is, too, a neighbour in the machine's own network.
sub outside { my ($address) = @_; return $address =~ /^(?:203\.0\.113|198\.51\.100)\.|^192\.0\.2\.1(?:$|:)|^\[?2001:db8:1:/ }

# The network and the files; once.
sub settle {
	my ($opt) = @_;
	sh('mount -t tmpfs -o size=1g,mode=755 tmpfs /mnt; mkdir -m 1777 /mnt/tmp; mkdir /mnt/run /mnt/story');
	$ENV{TMPDIR} = '/mnt/tmp';
	sh("mkdir /mnt/$_ /mnt/$_.work; mount -t overlay overlay -o lowerdir=/$_,upperdir=/mnt/$_,workdir=/mnt/$_.work /$_")
		for qw(etc usr var);
	sh('mount --bind /mnt/run /run; mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm');
	network();
	my $hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n";
	$hosts .= "$opt->{hosts}{$_} $_\n" for sort keys %{ $opt->{hosts} || {} };
	spew('/etc/hosts', $hosts);
	sh('rm -f /etc/resolv.conf'); # it may be a link
	spew('/etc/resolv.conf', "nameserver 127.0.0.1\n");
	my ($passwd, $group) = (slurp('/etc/passwd'), slurp('/etc/group'));
	for my $user ('postfix:2525', @{ $opt->{users} || [] }) {
		my ($name, $id) = split /:/, $user;
		$passwd =~ s/^\Q$name\E:.*\n//mg;
		$group =~ s/^\Q$name\E:.*\n//mg;
		$passwd .= "$name:x:$id:${id}::/var/empty:/usr/sbin/nologin\n";
		$group .= "$name:x:$id:\n";
	}
	$group .= "postdrop:x:2526:\n" unless $group =~ /^postdrop:/m;
	spew('/etc/passwd', $passwd);
	spew('/etc/group', $group);
	return;
}

# $path => text, or [ text, mode ].
sub put {
	my ($path, $what) = @_;
	my ($text, $mode) = ref $what ? @$what : ($what, 0644);
	make_path(dirname($path));
	spew($path, $text);
	chmod $mode, $path;
	return;
}

# own: what is added to main.cf and is the machine's or the story's; edit: a reference to a sub that changes the text of a
# file, given its name and text; pem: what /etc/ssl/site.pem holds ("cert", otherwise key and certificate).
sub new {
	my ($class, $name, %opt) = @_;
	croak 'use MailSystem comes first' unless $inside;
	settle(\%opt);
	my $dir = '/mnt/story';
	my $self = bless { name => $name, dir => $dir, conf => '/etc/postfix', opt => \%opt, stats => 9925, port => 25, seen => {},
		unseen => {}, owner => 'postfix' }, $class;
	Posthaste::keep($self);
	spew("$dir/clock", pack('q', 0) . "\0" x 4088);
	my $certs = $self->{certs} = Certs->new("$dir/certs");
	$certs->ca('ca');
	$certs->cert('site', ca => 'ca', names => [ 'mail.example.test', @{ $opt{names} || [] } ], cn => 'mail.example.test');
	my ($key, $crt) = map { slurp("$dir/certs/site.$_") } qw(key crt);
	put('/etc/ssl/site.key', [ $key, 0600 ]);
	put('/etc/ssl/site.crt', $crt);
	put('/etc/ssl/site.pem', [ ($opt{pem} // '') eq 'cert' ? $crt : $key . $crt, 0600 ]);
	put($_, $opt{files}{$_}) for keys %{ $opt{files} || {} };
	for my $file (qw(main.cf master.cf)) {
		my $text = $self->{$file} = slurp(Posthaste::top() . "/t/systems/$name/$file") || croak "no $name";
		$text = $opt{edit}->($file, $text) if $opt{edit};
		$text .= join '', map { "$_ = $self->{own}{$_}\n" } sort keys %{ $self->{own} = $self->own } if $file eq 'main.cf';
		put("/etc/postfix/$file", $text);
	}
	my ($queue) = ($self->command('postconf', '-h', 'queue_directory'))[1] =~ m{^(/.*)$}m; # there may be warnings
	make_path(dirname($queue));
	symlink $queue, "$dir/spool";
	$self->dns($opt{zone} // '');
	return $self;
}

# What has no place in the system's own file.
sub own {
	my ($self) = @_;
	my %own = (
		maillog_file => "$self->{dir}/log", stats_listen => "127.0.0.1:$self->{stats}",
		resolver_trust_anchor_file => '', # zones of tests are not signed from the root
		%{ $self->{opt}{own} || {} });
	for (qw(spool lib)) { # those that were built in are outside of what is the story's
		my $name = $_ eq 'lib' ? 'data_directory' : 'queue_directory';
		$own{$name} //= "/var/$_/posthaste" unless $self->{'main.cf'} =~ /^$name\s*=/m;
	}
	$own{myhostname} //= 'mail.example.test' unless $self->{'main.cf'} =~ /^myhostname\s*=/m;
	return \%own;
}

# ---- companions; each answers when these return ----

sub listens {
	my ($where, $what) = @_;
	wait_until(sub {
		$where =~ m{^/} ? IO::Socket::UNIX->new(Peer => $where) : IO::Socket::INET->new(PeerAddr => $where);
	}, 30) or croak "$what does not listen at $where";
	return;
}

sub script {
	my ($self, $name, @args) = @_;
	return spawn("$self->{dir}/$name.out", $^X, Posthaste::top() . "/t/e2e/lib/$name.pl", @args);
}

# Records as dns.pl wants them. Called again: these are all.
sub dns {
	my ($self, $zone) = @_;
	Posthaste::end_child($self->{dns}) if $self->{dns};
	unlink "$self->{dir}/zone.log";
	spew("$self->{dir}/zone", $zone);
	$self->{dns} = $self->script('dns', '127.0.0.1:53', "$self->{dir}/zone");
	wait_until(sub { -e "$self->{dir}/zone.log" }, 30) or croak 'no DNS';
	return;
}

# Instead of it a name server with a signed zone (NAME, and its records as a zone file has them), which MailSystem's
# resolver trusts; $zone is all the rest, as dns.pl wants it. Returns what main.cf needs for it, or nothing: no nsd.
sub signed_dns {
	my ($self, $zone, $name, $signed) = @_;
	return unless -x '/usr/sbin/nsd' && -x '/usr/bin/ldns-signzone';
	my $dir = "$self->{dir}/nsd";
	my $head = "\$TTL 60\n\@ SOA ns.test. hostmaster.test. 1 3600 600 86400 60\n\@ NS ns.test.\n";
	mkdir $dir;
	$zone =~ s/^(\S+)/$1./mg;
	$zone =~ s/ (MX \d+|PTR|NS) (\S+)$/ $1 $2./mg;
	spew("$dir/root", "\$ORIGIN .\n${head}ns.test. A 127.0.0.1\n$zone");
	spew("$dir/signed", "\$ORIGIN $name.\n$head$signed");
	my ($rc, $key) = run_ok('sh', '-ec', 'cd "$0"; k=$(ldns-keygen -a ECDSAP256SHA256 -k "$1"); ldns-signzone -n signed "$k"; echo "$k"', $dir, $name);
	croak $key if $rc;
	($key) = $key =~ /(\S+)\s*\z/;
	spew("$dir/conf", "server:\n\tip-address: 127.0.0.1\n\tdo-ip6: no\n\tserver-count: 1\n\tusername: \"\"\n\tchroot: \"\"\n\tzonesdir: \"$dir\"\n\tdatabase: \"\"\n"
		. "\tpidfile: \"$dir/pid\"\n\txfrdfile: \"$dir/xfrd\"\n\tzonelistfile: \"$dir/zones\"\n\tlogfile: \"$dir/log\"\nremote-control:\n\tcontrol-enable: no\n"
		. "zone:\n\tname: \".\"\n\tzonefile: \"root\"\nzone:\n\tname: \"$name\"\n\tzonefile: \"signed.signed\"\n");
	Posthaste::end_child($self->{dns});
	$self->{dns} = spawn("$dir/out", '/usr/sbin/nsd', '-d', '-c', "$dir/conf");
	listens('127.0.0.1:53', 'nsd');
	return (resolver_trust_anchor_file => "$dir/$key.key");
}
sub asked { my ($self) = @_; return slurp("$self->{dir}/zone.log") }

# At ADDRESS:PORT, a port of 127.0.0.1, or a path. $script: as milter.pl says. Returns the name of its log.
sub milter {
	my ($self, $where, $script) = @_;
	my $file = "$self->{dir}/milter" . ++$self->{count};
	spew($file, $script);
	spew("$file.log", '');
	$self->{last_milter} = $self->script("milter", $where, $file, "$file.log");
	listens($where =~ m{^/|:} ? $where : "127.0.0.1:$where", 'a milter');
	return "$file.log";
}

# Rules as policyserver.pl says. Returns the name of the file, which may be written anew; FILE.asked has the questions.
sub policy {
	my ($self, $where, $rules) = @_;
	my $file = "$self->{dir}/policy" . ++$self->{count};
	spew($file, $rules);
	spew("$file.asked", '');
	$self->script('policyserver', $where, $file);
	wait_until(sub { -e "$file.ready" }, 30) or croak 'no policy server';
	return $file;
}

# Passwords that begin with "good" are right. A path, or a port of 127.0.0.1.
sub dovecot_auth {
	my ($self, $where) = @_;
	make_path(dirname($where)) if $where =~ m{^/};
	$self->script('saslserver', 'dovecot', $where);
	listens($where =~ m{^/} ? $where : "127.0.0.1:$where", 'the login service');
	return;
}

# $kind: tcp or socketmap; $text: as tableserver.pl says. Returns the file's name.
sub table_server {
	my ($self, $kind, $port, $text) = @_;
	my $file = "$self->{dir}/table" . ++$self->{count};
	spew($file, $text);
	spew("$file.asked", '');
	$self->script('tableserver', $port, $file, $kind);
	wait_until(sub { -e "$file.ready" }, 30) or croak 'no table server';
	return $file;
}

# A next hop or an LMTP server that keeps what it is told: ADDRESS:PORT or a path, and recorder.pl's arguments.
# ->got is all of it, ->messages a list of { from, to => [...], text, dialogue }.
sub hop {
	my ($self, $where, @args) = @_;
	my $file = "$self->{dir}/hop" . ++$self->{count};
	make_path(dirname($where)) if $where =~ m{^/};
	my $begin = sub { $self->script('recorder', $where, $file, 'whole', @args) };
	my $pid = outside($where) ? in_world($begin) : $begin->();
	wait_until(sub { -e "$file.ready" }, 30) or croak "nothing listens at $where";
	return bless { pid => $pid, file => $file, at => $where =~ s/^([\d.]+):/[$1]:/r }, 'MailSystem::Hop';
}

# Next hops of the world that want logins: "ADDRESS:PORT=MECHANISMS" (saslhop.pl).
sub login_hop {
	my ($self, @where) = @_;
	my $ready = "$self->{dir}/loginhop" . ++$self->{count};
	in_world(sub { $self->script('saslhop', $ready, @where) });
	wait_until(sub { -e $ready }, 30) or croak 'no hop with logins';
	return;
}

# A port of 127.0.0.1 that leads to another one behind $text, as haproxy's do.
sub proxied {
	my ($self, $to, $text) = @_;
	my ($port, $ready) = (Posthaste::free_port(), "$self->{dir}/proxy" . ++$self->{count});
	$self->script('proxy', $port, $to, $text, $ready);
	wait_until(sub { -e $ready }, 30) or croak 'no proxy';
	return $port;
}

# A content filter: takes mail at ADDRESS:PORT and gives it to $back with a header of its name (filter.pl).
sub filter {
	my ($self, $where, $back, $name) = @_;
	my $file = "$self->{dir}/filter" . ++$self->{count};
	my $pid = $self->script('filter', $where, $back, $file, $name // 'filter');
	wait_until(sub { -e "$file.ready" }, 30) or croak 'no filter';
	return bless { pid => $pid, file => $file }, 'MailSystem::Hop';
}

# A real one of lib/Servers.pm at this port, or undef; $sql is given to it.
sub database {
	my ($self, $kind, $port, $sql) = @_;
	my $server = Servers->new($kind, $self->{dir}) or return;
	$server->{port} = $port;
	$server->begin;
	$server->start;
	$server->sql($sql) if defined $sql;
	return $server;
}

# ---- clients ----

# port; from: the client's address (127.0.0.1); to: the server's (127.0.0.1, or 192.0.2.25 for clients from elsewhere);
# tls: "start", "wrapped" or none; openssl: more of s_client's arguments. undef when there is no session.
sub client {
	my ($self, %opt) = @_;
	$opt{port} //= 25;
	$opt{to} //= ($opt{from} // '127.') =~ /^127\./ ? '127.0.0.1' : '192.0.2.25';
	my $begin = sub { my $how = $opt{tls} ? 'tls' : 'plain'; return MailSystem::Client->$how(%opt) };
	return outside($opt{from} // '') ? in_world($begin) : $begin->();
}

# A client that is not yet greeted: it comes from there, to port 25.
sub newcomer {
	my ($self, $from) = @_;
	my $s = in_world(sub { return IO::Socket::INET->new(PeerAddr => '192.0.2.25:25', LocalAddr => $from, Timeout => 20) }) or croak "no connection: $!";
	$s->autoflush(1);
	return bless { sock => $s }, 'MailSystem::Client';
}

# Whether postscreen is in front of port 25.
sub is_screened {
	my ($self) = @_;
	$self->{screened} //= ($self->command('posthaste', 'check'))[1] =~ /postscreen is not there|there is no postscreen/ ? 0 : 1;
	return $self->{screened};
}

# Lets these clients pass postscreen's first look, all at once, so that it knows them from then on.
sub pass_screen {
	my ($self, @from) = @_;
	my @c = map { my $at = $_; in_world(sub { IO::Socket::IP->new(PeerHost => '192.0.2.25', PeerPort => 25, LocalHost => $at, Timeout => 20) }) } @from;
	my %seen = map { $_ => '' } @c;
	my $tries = 0;
	wait_until(sub {
		for my $s (@c) {
			my $bits = '';
			vec($bits, fileno $s, 1) = 1;
			sysread $s, $seen{$s}, 4096, length $seen{$s} if select $bits, undef, undef, 0.05;
		}
		return 1 if !grep { $seen{$_} !~ /^220 .*\n/m } @c;
		$self->advance(4) if ++$tries > 5;
		return 0;
	}) or croak 'postscreen lets nobody pass';
	for my $s (@c) { syswrite $s, "QUIT\r\n"; sysread $s, my $bye, 4096; close $s }
	return;
}

# The reply to the last of these lines, in a session of its own as client() begins it; login: a user, whose password is "good".
sub last_reply {
	my ($self, $opt, @lines) = @_;
	my $c = $self->client(%$opt) or return '';
	my $reply = $c->{banner};
	$reply = $c->login($opt->{login}, $opt->{password} // 'good') if defined $opt->{login};
	for my $line (@lines) { $reply = $c->cmd($line) // '' }
	$c->quit;
	return $reply;
}

# One message in such a session: the reply to it, or the first that refuses. $to: one address, or a list of them.
sub give {
	my ($self, $opt, $from, $to, $text) = @_;
	my $c = $self->client(%$opt) or return '';
	$c->cmd('EHLO ' . ($opt->{helo} // 'client.test'));
	$c->login($opt->{login}, $opt->{password} // 'good') if defined $opt->{login};
	my $reply = eval { $c->mail($from, $to, $text) } // $@;
	$c->quit;
	return $reply;
}

# A Posthaste out in the world: "ADDRESS:PORT inet n - n - - smtpd" and more in $master; its mail goes to $hop, of hop().
sub far {
	my ($self, $hop, $master, %main) = @_;
	my $far = Posthaste->prepare(master => $master, main => { relayhost => $hop->{at}, mynetworks => '0.0.0.0/0',
		inet_interfaces => 'all', %main });
	in_world(sub { $far->launch });
	return $far;
}

# The log's lines of the message with this queue id or reply.
sub lines_of {
	my ($self, $id) = @_;
	($id) = $id =~ /queued as (\w+)/ if ($id // '') =~ / /;
	return defined $id ? join '', grep { /\b\Q$id\E\b/ } split /^/, $self->log : '';
}

# sendmail(1), as the user of that name: status and output.
sub sendmail {
	my ($self, $user, $text, @args) = @_;
	spew("$self->{dir}/letter", $text);
	chmod 0644, "$self->{dir}/letter";
	return run_ok('setpriv', "--reuid=$user", '--regid=nogroup', '--clear-groups', 'sh', '-c',
		'exec "$0" -C /etc/postfix "$@" <' . "$self->{dir}/letter", Posthaste::prefix() . '/sbin/sendmail', @args);
}

# ---- the account of the settings ----

# Names: "NAME" of main.cf, "SERVICE:NAME" of an option in master.cf.
sub settings {
	my ($self) = @_;
	my @names = $self->{'main.cf'} =~ /^([\w.-]+)\s*=/mg;
	my $service;
	for (split /\n/, $self->{'master.cf'}) {
		$service = $1 if /^([^\s#]\S*)/;
		push @names, "$service:$1" if /^\s+-o\s*([\w.-]+)\s*=/;
	}
	return @names;
}

# One look that shows what the settings in $names say: a test like like(), or like ok() without a pattern.
sub saw {
	my ($self, $names, @look) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $what = pop @look;
	my $pattern = ref $look[-1] eq 'Regexp' ? pop @look : undef;
	croak "not one look at $names" if @look > 1 || !defined $what || ref $what;
	my ($got) = @look; # none: an expression in list context that has found nothing
	my $fine = Test::More::ok(defined $pattern ? defined $got && $got =~ $pattern : $got, $what);
	# logs are long
	Test::More::diag("$names: ", join "\n", grep({ defined } (split /\n/, $got // 'undef')[-12 .. -1]), 'does not match', $pattern) if !$fine && defined $pattern;
	$self->{known} //= { map { $_ => 1 } $self->settings };
	for my $name (split ' ', $names) {
		croak "$self->{name} does not set $name" unless $self->{known}{$name};
		$self->{seen}{$name}++;
	}
	return $fine;
}

# The same of the log, which is waited for.
sub saw_log {
	my ($self, $names, $pattern, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until(sub { $self->log =~ $pattern }, 10);
	return $self->saw($names, $self->log, $pattern, $what);
}

# Settings that nothing can be seen of, each with its reason.
sub unseen { my ($self, %why) = @_; $self->{unseen}{$_} = $why{$_} for keys %why; return }

# Every setting was seen, or there is a reason.
sub account {
	my ($self) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %all = map { $_ => 1 } $self->settings;
	my @lost = grep { !$self->{seen}{$_} && !$self->{unseen}{$_} } sort keys %all;
	Test::More::is("@lost", '', "$self->{name}: every setting was seen to act, or it is said why not");
	my @wrong = grep { !$all{$_} || $self->{seen}{$_} } sort keys %{ $self->{unseen} };
	Test::More::is("@wrong", '', '... and no reason is given without need');
	Test::More::note(scalar(keys %{ $self->{seen} }) . ' of ' . keys(%all) . ' settings were seen');
	Test::More::note("$_: $self->{unseen}{$_}") for sort keys %{ $self->{unseen} };
	return;
}

package MailSystem::Hop;

sub got { return Posthaste::slurp($_[0]{file}) }
sub stop { my ($self) = @_; return Posthaste::end_child(delete $self->{pid}) }

sub messages {
	my ($self) = @_;
	my (@all, $m, $in_text);
	for my $line (split /^/, $self->got =~ s/\r//gr) {
		if ($in_text && $line eq ".\n") {
			push @all, $m;
			$m = $in_text = undef;
		} elsif ($in_text) {
			$m->{text} .= $line =~ s/^\.//r;
		} elsif ($line =~ /^MAIL FROM:<([^>]*)>/i) {
			$m = { from => $1, to => [], dialogue => $line, text => '' };
		} elsif ($m) {
			$m->{dialogue} .= $line;
			push @{ $m->{to} }, $1 if $line =~ /^RCPT TO:<([^>]*)>/i;
			$in_text = $line =~ /^DATA/i;
		}
	}
	return @all;
}

# The message in which this is found; it is waited for.
sub message {
	my ($self, $re, $seconds) = @_;
	return Posthaste::wait_until(sub { (grep { "$_->{dialogue}\n$_->{text}" =~ $re } $self->messages)[0] }, $seconds // 20);
}

package MailSystem::Client;
no warnings 'exec';
use MIME::Base64;
use Socket;
our @ISA = ('Posthaste::Client');

sub plain {
	my ($class, %opt) = @_;
	my $s = IO::Socket::IP->new(PeerHost => $opt{to} =~ s/^\[(.*)\]$/$1/r, PeerPort => $opt{port}, Timeout => 20,
		$opt{from} ? (LocalHost => $opt{from}) : ()) or return;
	$s->autoflush(1);
	print {$s} $opt{first} if defined $opt{first}; # before the banner
	my $self = bless { sock => $s }, $class;
	$self->{banner} = $self->reply;
	return $self;
}

sub tls {
	my ($class, %opt) = @_;
	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		open STDIN, '<&', $theirs;
		open STDOUT, '>&', $theirs;
		open STDERR, '>', '/dev/null';
		exec 'openssl', 's_client', '-quiet', '-connect', "$opt{to}:$opt{port}", ($opt{from} ? ('-bind', "$opt{from}:0") : ()),
			($opt{tls} eq 'start' ? ('-starttls', 'smtp', '-name', 'client.test') : ()), @{ $opt{openssl} || [] } or POSIX::_exit(71);
	}
	close $theirs;
	$ours->autoflush(1);
	my $self = bless { sock => $ours, pid => $pid }, $class;
	local $SIG{PIPE} = 'IGNORE';
	# behind STARTTLS nothing is said until the first command
	$self->{banner} = $opt{tls} eq 'start' ? $self->cmd("EHLO " . ($opt{helo} // 'client.test')) : $self->reply;
	return $self if defined $self->{banner};
	$self->end;
	return;
}

# The reply to AUTH PLAIN.
sub login {
	my ($self, $user, $password) = @_;
	$self->cmd('EHLO client.test');
	return $self->cmd('AUTH PLAIN ' . encode_base64("\0$user\0$password", ''));
}

sub end {
	my ($self) = @_;
	close $self->{sock};
	my $pid = delete $self->{pid} or return;
	kill 'TERM', $pid;
	waitpid $pid, 0;
	return;
}

sub quit { my ($self) = @_; my $r = $self->cmd('QUIT'); $self->end; return $r }

sub DESTROY { my ($self) = @_; local ($?, $!); $self->end; return }

1;
