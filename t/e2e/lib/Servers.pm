# SPDX-License-Identifier: GPL-3.0-or-later
# Servers of lookup tables for stories: real ones, from Debian's packages, each in a directory of its own, as an
# ordinary user, on loopback. One that is not installed is unpacked into the build folder (scripts/peers) and runs from
# there; POSTHASTE_UNPACKED=1 does so with those that are installed, too. undef: it cannot be had.
package Servers;
use strict;
use warnings;
use IO::Socket::INET;
use Peers;
use Posthaste qw(slurp spew wait_until free_port spawn);

my @nobody = $> ? () : qw(setpriv --reuid=65534 --regid=65534 --clear-groups);

my %root; # kind of server -> folder it is unpacked in, "" when it is installed

sub program {
	my ($name) = @_;
	my @unpacked = map { ("$_/usr/sbin", "$_/usr/bin", glob "$_/usr/lib/postgresql/*/bin") } grep { $_ } values %root;
	my ($path) = grep { -x } map { "$_/$name" } @unpacked, split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/bin',
		reverse sort glob '/usr/lib/postgresql/*/bin';
	return $path;
}

# Where the files of a kind's package are: "" or a folder of the build.
sub root {
	my ($kind, @programs) = @_;
	if (!defined $root{$kind}) {
		my $here = !$ENV{POSTHASTE_UNPACKED} && !grep { !program($_) } @programs;
		$root{$kind} = $here ? '' : Peers::unpacked($kind) // '';
	}
	return $root{$kind};
}

# What goes in front of a command, for the libraries of what is unpacked; ours keep to those of the machine.
sub with_libs {
	my @libs = map { ("$_/lib", "$_/usr/lib") } grep { $_ } values %root;
	@libs = map { glob "$_/*-linux-gnu" } @libs;
	return @libs ? ('env', 'LD_LIBRARY_PATH=' . join ':', @libs) : ();
}

sub give {
	my ($dir) = @_;
	mkdir $dir;
	chmod 0755, $dir;
	chown 65534, 65534, $dir if !$>;
	return $dir;
}

sub listens {
	my ($port) = @_;
	return wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") }, 60);
}

sub run {
	my ($out, @cmd) = @_;
	my $pid = spawn($out, '/bin/sh', '-c', 'exec "$@" 2>&1', 'sh', with_libs(), @cmd);
	return $pid;
}

sub new {
	my ($class, $kind, $dir) = @_;
	my $self = bless { kind => $kind, dir => give("$dir/$kind"), port => free_port() }, $class;
	return "Servers::$kind"->can('prepare')->($self) ? $self : undef;
}

# Makes the server's files in the background.
sub begin { my ($self) = @_; $self->{making} = "Servers::$self->{kind}"->can('make')->($self); return }

sub start {
	my ($self) = @_;
	Posthaste::wait_child(delete $self->{making}, 120) if $self->{making};
	$self->{pid} = run("$self->{dir}.out", "Servers::$self->{kind}"->can('command')->($self));
	listens($self->{port}) or die "$self->{kind} does not start: " . slurp("$self->{dir}.out");
	my $fill = "Servers::$self->{kind}"->can('fill');
	$fill->($self) if !$self->{filled}++;
	return;
}

sub stop { my ($self) = @_; Posthaste::end_child(delete $self->{pid}) if $self->{pid}; return }

sub talk {
	my ($self, @lines) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{port}") or die "$self->{kind}: $!";
	for my $line (@lines) {
		print {$s} $line;
		my $reply = <$s>;
		die "$self->{kind}: $reply" if $reply =~ /^(?:-|ERROR)/;
	}
	return;
}

package Servers::memcached;
sub prepare { my ($s) = @_; Servers::root('memcached', 'memcached'); return $s->{program} = Servers::program('memcached') }
sub make { return }
sub command { my ($s) = @_; return (@nobody, $s->{program}, '-l', '127.0.0.1', '-p', $s->{port}, '-m', 8, '-t', 1) }
sub fill { }
sub set { my ($s, $key, $value) = @_; $s->talk("set $key 0 0 " . length($value) . "\r\n$value\r\n"); return }

package Servers::redis;
# one program, which goes by its name
sub prepare {
	my ($s) = @_;
	my $there = Servers::program('redis-server') || Servers::program('redis-check-rdb') or return;
	symlink $there, $s->{program} = "$s->{dir}/redis-server";
	return 1;
}
sub make { return }

sub command {
	my ($s) = @_;
	return (@nobody, $s->{program}, '--bind', '127.0.0.1', '--port', $s->{port}, '--dir', $s->{dir}, '--save', '',
		'--requirepass', 'open sesame');
}
sub fill { }

sub set {
	my ($s, $key, $value) = @_;
	my $bulk = sub { join '', '*' . @_ . "\r\n", map { '$' . length($_) . "\r\n$_\r\n" } @_ };
	$s->talk($bulk->('AUTH', 'open sesame'), $bulk->('SELECT', 2), $bulk->('SET', $key, $value));
	return;
}

package Servers::postgres;
use Posthaste qw(spew run_ok);
sub prepare {
	my ($s) = @_;
	Servers::root('postgres', 'postgres', 'psql');
	return ($s->{program} = Servers::program('postgres')) && Servers::program('psql');
}

sub make {
	my ($s) = @_;
	Posthaste::spew("$s->{dir}.pw", "open sesame\n");
	chmod 0644, "$s->{dir}.pw";
	return Servers::run("$s->{dir}.initdb", @nobody, Servers::program('initdb'), '-D', "$s->{dir}/data", '-N', '-U',
		'mail', '-A', 'scram-sha-256', "--pwfile=$s->{dir}.pw", '--locale=C', '-E', 'UTF8', '--no-instructions');
}

sub command {
	my ($s) = @_;
	return (@nobody, $s->{program}, '-D', "$s->{dir}/data", '-F', '-h', '127.0.0.1', '-p', $s->{port}, '-k', $s->{dir},
		'-c', 'shared_buffers=1MB', '-c', 'max_connections=20', '-c', 'autovacuum=off');
}

sub sql {
	my ($s, $text) = @_;
	local $ENV{PGPASSWORD} = 'open sesame';
	my ($rc, $out) = Posthaste::run_ok(Servers::with_libs(), Servers::program('psql'), '-q', '-h', '127.0.0.1', '-p', $s->{port}, '-U', 'mail',
		'-v', 'ON_ERROR_STOP=1', '-c', $text, 'postgres');
	die "psql: $out" if $rc;
	return;
}
sub fill { my ($s) = @_; Posthaste::wait_until(sub { eval { $s->sql('select 1') ; 1 } }, 60) or die $@; return }

package Servers::mariadb;
sub prepare { my ($s) = @_; return ($s->{program} = Servers::program('mariadbd')) && Servers::program('mariadb') }

sub make {
	my ($s) = @_;
	Servers::give("$s->{dir}/data");
	return Servers::run("$s->{dir}.install", @nobody, Servers::program('mariadb-install-db'), '--no-defaults',
		"--datadir=$s->{dir}/data", '--auth-root-authentication-method=normal', '--skip-test-db', '--skip-name-resolve');
}

sub command {
	my ($s) = @_;
	return (@nobody, $s->{program}, '--no-defaults', "--datadir=$s->{dir}/data", '--bind-address=127.0.0.1',
		"--port=$s->{port}", "--socket=$s->{dir}/sock", "--pid-file=$s->{dir}/pid", '--skip-name-resolve',
		'--innodb-flush-log-at-trx-commit=0', '--innodb-buffer-pool-size=8M', '--key-buffer-size=1M');
}

sub sql {
	my ($s, $text) = @_;
	my ($rc, $out) = Posthaste::run_ok(Servers::program('mariadb'), '--no-defaults', '-uroot', "-S$s->{dir}/sock", '-e', $text);
	die "mariadb: $out" if $rc;
	return;
}
sub fill { my ($s) = @_; Posthaste::wait_until(sub { eval { $s->sql('select 1') ; 1 } }, 60) or die $@; return }

package Servers::slapd;
sub prepare {
	my ($s) = @_;
	$s->{root} = Servers::root('slapd', 'slapd', 'slapadd');
	return ($s->{program} = Servers::program('slapd')) && -d "$s->{root}/etc/ldap/schema";
}

sub make {
	my ($s) = @_;
	my $dir = $s->{dir};
	Servers::give("$dir/db");
	my $tls = '';
	for (grep { $s->{cert} } qw(crt key)) { # which only its owner may read
		Posthaste::spew("$dir/cert.$_", Posthaste::slurp("$s->{cert}.$_"));
		chown 65534, 65534, "$dir/cert.$_" if !$>;
		$tls = "TLSCertificateFile $dir/cert.crt\nTLSCertificateKeyFile $dir/cert.key\n";
	}
	Posthaste::spew("$dir/slapd.conf", <<"EOC");
include $s->{root}/etc/ldap/schema/core.schema
include $s->{root}/etc/ldap/schema/cosine.schema
include $s->{root}/etc/ldap/schema/inetorgperson.schema
modulepath $s->{root}/usr/lib/ldap
moduleload back_mdb
pidfile $dir/pid
database mdb
suffix "dc=test"
rootdn "cn=admin,dc=test"
rootpw sesame
directory $dir/db
dbnosync
maxsize 10485760
${tls}sasl-host ldap.test
authz-regexp "^uid=([^,]+),(cn=[^,]+,)*cn=auth\$" "cn=\$1,dc=test"
access to attrs=userPassword by anonymous auth
access to * by users read by * auth
EOC
	Posthaste::spew("$dir/init.ldif", $s->{ldif});
	return Servers::run("$dir.slapadd", @nobody, Servers::program('slapadd'), '-q', '-f', "$dir/slapd.conf", '-l',
		"$dir/init.ldif");
}

sub command {
	my ($s) = @_;
	return (@nobody, $s->{program}, '-f', "$s->{dir}/slapd.conf", '-h', "ldap://127.0.0.1:$s->{port}/", '-d', 0);
}
sub fill { }

BEGIN {
	no strict 'refs';
	for my $kind (qw(memcached redis postgres mariadb slapd)) {
		for my $call (qw(set sql)) {
			next if *{"Servers::$call"}{CODE};
			*{"Servers::$call"} = sub { my ($s, @args) = @_; return "Servers::$s->{kind}"->can($call)->($s, @args) };
		}
	}
}

1;
