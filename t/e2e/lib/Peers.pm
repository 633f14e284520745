# SPDX-License-Identifier: GPL-3.0-or-later
# Other mail systems out of their Debian packages (scripts/peers), for the stories that exchange mail
# with them. Nothing is installed: each runs with a configuration and a spool of its own, on a
# loopback port, in a mount namespace where its package lies over /usr and its users exist.
#
#   my $exim = Peers->exim(home => 'exim.test', next => $port_of_posthaste);
#   $exim->{port}; $exim->box('joe'); $exim->log; $exim->stop;
package Peers;
use strict;
use warnings;
use Posthaste qw(free_port slurp spew spawn run_ok wait_until);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use IO::Socket::INET;

# Unpack; returns the folder or undef. Without root there are no users to become.
sub unpacked {
	my ($name) = @_;
	my $peers = Posthaste::build_dir() . '/peers';
	my ($rc) = run_ok(Posthaste::top() . '/scripts/peers', $peers, $name);
	return $rc == 0 ? "$peers/$name" : undef;
}

# Why no peer can run here; undef when they can.
sub obstacle {
	return 'needs root: the peers change to users of their own' if $> != 0;
	my ($rc) = run_ok('unshare', '-m', 'mount', '-t', 'overlay', 'overlay', '-o', 'lowerdir=/usr:/etc',
		'/usr');
	return $rc == 0 ? undef : 'needs a mount namespace and overlayfs';
}

# Users "name:uid" for the namespace; the files land in the peer's folder.
sub users {
	my ($dir, @users) = @_;
	my ($passwd, $group) = (slurp('/etc/passwd'), slurp('/etc/group'));
	for my $user (@users) {
		my ($name, $id) = split /:/, $user;
		next if $passwd =~ /^\Q$name\E:/m;
		$passwd .= "$name:x:$id:${id}::/nonexistent:/usr/sbin/nologin\n";
		$group .= "$name:x:$id:\n" unless $group =~ /^\Q$name\E:/m;
	}
	spew("$dir/passwd", $passwd);
	spew("$dir/group", $group);
	return "mount --bind $dir/passwd /etc/passwd && mount --bind $dir/group /etc/group";
}

sub new {
	my ($class, $name, %opt) = @_;
	my $root = unpacked($name) or return;
	my $dir = tempdir("posthaste-$name-XXXXXX", TMPDIR => 1, CLEANUP => 1);
	chmod 0755, $dir;
	make_path("$dir/mail");
	chown +(getpwnam 'games')[2, 3], "$dir/mail";
	return bless { name => $name, root => $root, dir => $dir, port => free_port(), %opt }, $class;
}

# Start under `unshare -m`, after the shell commands in $setup; the pid is the peer's own.
sub run {
	my ($self, $setup, @cmd) = @_;
	$self->{pid} = spawn("$self->{dir}/out", 'unshare', '-m', 'sh', '-c', 'exec 2>&1; ' .
		"mount -t overlay overlay -o lowerdir=$self->{root}/usr:/usr /usr && $setup && exec \"\$\@\"",
		'sh', @cmd);
	return wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$self->{port}") }, 15)
		? $self : do { warn $self->output; undef };
}

sub output { return slurp("$_[0]{dir}/out") }

sub log { return join '', map { slurp($_) } glob "$_[0]{dir}/log/*" }

# The messages of one local mailbox, the oldest first.
sub box {
	my ($self, $user) = @_;
	my @files = glob "$self->{dir}/mail/$user/new/* $self->{dir}/mail/$user/cur/*";
	return map { slurp($_) } @files;
}

sub stop {
	my ($self) = @_;
	return Posthaste::end_child(delete $self->{pid});
}

sub postfix {
	my ($class, %opt) = @_;
	my $self = $class->new('postfix', %opt) or return;
	my ($r, $dir) = @$self{qw(root dir)};
	my $more = $opt{main} // '';
	$opt{prepare}->($self) if $opt{prepare}; # file systems of its own
	my ($uid, $gid) = (getpwnam 'games')[2, 3];
	my $mail = (getgrnam 'mail')[2];
	make_path("$dir/conf", "$dir/data", "$dir/log", map { "$dir/q/$_" }
		qw(active bounce corrupt defer deferred flush hold incoming private maildrop public pid saved trace));
	spew("$dir/conf/main.cf", <<"EOF");
compatibility_level = 3.6
queue_directory = $dir/q
data_directory = $dir/data
meta_directory = $r/etc/postfix
mail_owner = games
setgid_group = mail
myhostname = mx.$opt{home}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
relayhost = [127.0.0.1]:$opt{next}
virtual_mailbox_domains = $opt{home}
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = inline:{ { joe\@$opt{home} = joe/ }, { ann\@$opt{home} = ann/ } }
virtual_uid_maps = static:$uid
virtual_gid_maps = static:$gid
virtual_minimum_uid = 1
smtpd_peername_lookup = no
maillog_file = $dir/log/maillog
maillog_file_prefixes = $dir
alias_maps =
smtp_tls_security_level = none
EOF
	# Each name once: a process that warns of a second one before postlogd reads could wait for ever,
	# postlogd itself among them.
	my %more = map { /^(\w+)\s*=/ ? ($1 => 1) : () } split /^/, $more;
	spew("$dir/conf/main.cf", join('', grep { !/^(\w+)\s*=/ || !$more{$1} } split /^/, slurp("$dir/conf/main.cf")) . $more);
	my $master = slurp("$r/usr/share/postfix/master.cf.dist");
	$master =~ s/^#.*\n//mg;
	$master =~ s/^smtp(\s+inet)/127.0.0.1:$self->{port}$1/m;
	$master =~ s/^([\w.:]+\s+\S+\s+\S+\s+\S+\s+)\S+(\s)/$1n$2/mg; # no chroot
	spew("$dir/conf/master.cf", $master . ($opt{master} // ''));
	chown $uid, 0, "$dir/data", grep { !m{/(pid)$} } glob "$dir/q/*";
	chown $uid, $mail, "$dir/q/maildrop", "$dir/q/public";
	chmod 0730, "$dir/q/maildrop";
	chmod 0710, "$dir/q/public";
	chmod 0700, map { "$dir/q/$_" } qw(private active incoming deferred defer bounce);
	return $self->postfix_run;
}

# Start it, also again after a crash.
sub postfix_run {
	my ($self) = @_;
	my $resolv = "$self->{dir}/resolv.conf"; # made by `prepare`
	return $self->run(-e $resolv ? "mount --bind $resolv /etc/resolv.conf" : 'true', '/usr/lib/postfix/sbin/master', '-c', "$self->{dir}/conf", '-d');
}

# main: more lines for the main part of the configuration.
sub exim {
	my ($class, %opt) = @_;
	my $self = $class->new('exim', %opt) or return;
	my $dir = $self->{dir};
	my $main = $opt{main} || '';
	make_path("$dir/spool", "$dir/log", "$dir/lib/exim4");
	chown +(getpwnam 'games')[2, 3], "$dir/spool", "$dir/log";
	# in the place it was built to look; with -C it would give up its privileges
	spew("$dir/lib/exim4/config.autogenerated", <<"EOF");
primary_hostname = mx.$opt{home}
spool_directory = $dir/spool
exim_user = games
exim_group = games
keep_environment =
log_file_path = $dir/log/%slog
daemon_smtp_ports = $self->{port}
local_interfaces = 127.0.0.1
tls_advertise_hosts =
chunking_advertise_hosts = *
dsn_advertise_hosts = *
domainlist home = $opt{home}
$main
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  deny domains = +home
       ! local_parts = joe : ann
       message = no such box
  accept
begin routers
home:
  driver = accept
  domains = +home
  local_parts = joe : ann
  transport = box
out:
  driver = manualroute
  domains = ! +home
  transport = smtp
  route_list = * 127.0.0.1 byname
  self = send
begin transports
box:
  driver = appendfile
  maildir_format
  directory = $dir/mail/\$local_part_data
  delivery_date_add
  envelope_to_add
  return_path_add
  user = games
  group = games
smtp:
  driver = smtp
  port = $opt{next}
  allow_localhost
begin retry
* * F,1h,5m
EOF
	return $self->run(users($dir, 'Debian-exim:901') . " && mount --bind $dir/lib /var/lib",
		'/usr/sbin/exim4', '-bdf', '-q10m', '-oP', "$dir/pid");
}

sub opensmtpd {
	my ($class, %opt) = @_;
	my $self = $class->new('opensmtpd', %opt) or return;
	my $dir = $self->{dir};
	make_path("$dir/run", "$dir/spool/smtpd", "$dir/lib/opensmtpd/empty");
	chmod 0711, "$dir/spool/smtpd";
	spew("$dir/conf", <<"EOF");
listen on 127.0.0.1 port $self->{port} hostname mx.$opt{home}
table boxes { "joe" = "games", "ann" = "games" }
action "box" maildir "$dir/mail/%{rcpt.user}" virtual <boxes>
action "out" relay host smtp://127.0.0.1:$opt{next} helo mx.$opt{home}
match from any for domain "$opt{home}" action "box"
match from any for any action "out"
EOF
	my $setup = join ' && ', users($dir, 'opensmtpd:902', 'opensmtpq:903'),
		"mount --bind $dir/run /run", "mount --bind $dir/spool /var/spool",
		"mount --bind $dir/lib /var/lib";
	return $self->run($setup, '/usr/sbin/smtpd', '-d', '-f', "$dir/conf");
}

# A program of the peer's, among its files: exit status and output.
sub inside {
	my ($self, @cmd) = @_;
	return run_ok('nsenter', "--mount=/proc/$self->{pid}/ns/mnt", '--wd=/', @cmd);
}

# LMTP only: on the port, and on $dir/run/lmtp. Mail of joe, ann and others (users => [...]).
sub dovecot {
	my ($class, %opt) = @_;
	my $self = $class->new('dovecot', %opt) or return;
	my $dir = $self->{dir};
	my ($uid, $gid) = (getpwnam 'games')[2, 3];
	make_path("$dir/run", "$dir/log", "$dir/lib/dovecot");
	spew("$dir/users", join '', map { "$_\@$opt{home}:{plain}x:$uid:${gid}::$dir/mail/$_\n" } qw(joe ann), @{ $opt{users} || [] });
	spew("$dir/conf", <<"EOF");
base_dir = $dir/run
state_dir = $dir/lib/dovecot
auth_failure_delay = 0
log_path = $dir/log/dovecot
protocols = lmtp
ssl = no
first_valid_uid = 1
listen = 127.0.0.1
postmaster_address = postmaster\@$opt{home}
hostname = mx.$opt{home}
mail_location = maildir:~
stats_writer_socket_path =
passdb {
  driver = passwd-file
  args = $dir/users
}
userdb {
  driver = passwd-file
  args = $dir/users
}
service lmtp {
  inet_listener lmtp {
    port = $self->{port}
  }
  unix_listener lmtp {
    mode = 0666
  }
}
service auth {
  unix_listener auth-client {
    mode = 0666
  }
}
service stats {
  unix_listener stats-reader {
    mode = 0
  }
  unix_listener stats-writer {
    mode = 0
  }
}
EOF
	return $self->run(users($dir, 'dovecot:904', 'dovenull:905'), '/usr/sbin/dovecot', '-F', '-c',
		"$dir/conf");
}

1;
