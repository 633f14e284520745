#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Policy services: connections are kept and shared, requests at the same time have one each, a service that hangs
# holds up nobody who does not ask it, a lookup worker that dies in the middle of a request harms nobody. Then real
# ones out of Debian packages: postgrey and postfix-policyd-spf-perl.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn run_ok);
use IO::Select;
use IO::Socket::INET;
use Test::More;

my $next = Posthaste->recorder;
my $mta = Posthaste->prepare;
my $dir = $mta->{dir};
my $spool = ($mta->command('postconf', '-h', 'queue_directory'))[1] =~ s/\s+\z//r;
mkdir $spool;
my %pid;

sub server {
	my ($name, $where, @rules) = @_;
	spew("$dir/$name", join '', map { "$_\n" } @rules);
	$pid{$name} = spawn("$dir/$name.out", $^X, "$FindBin::Bin/lib/policyserver.pl", $where, "$dir/$name");
	return wait_until(sub { -e "$dir/$name.ready" }, 20);
}

# its requests, as lists of attributes
sub asked {
	my ($name) = @_;
	return map { my %r = map { /^(\w+)=(.*)/ ? ($1 => $2) : () } split /\n/; \%r } split /\n\n/, -e "$dir/$name.asked" ? slurp("$dir/$name.asked") : '';
}

ok server('quick', "$dir/quick.sock", "sender=no\@x.test\tREJECT you are not welcome"), 'a server on a socket';
my $slow_port = free_port();
ok server('slow', $slow_port, "recipient=hang\@here.test\t=HANG", "recipient=last\@here.test\t=LAST DUNNO"), 'and one on a port';

# real ones; they need Perl as the package has it
my ($unpacked) = run_ok(Posthaste::top() . '/scripts/peers', Posthaste::build_dir() . '/peers', 'policy');
my $usr = Posthaste::build_dir() . '/peers/policy/usr';
my @perl = ($^X, map { "-I$_" } "$usr/share/perl5", glob("$usr/lib/*/perl5/5.*"));
my ($grey_port, $spf_port) = (free_port(), free_port());
my %real;
if ($unpacked == 0 && system("@perl -T -c $usr/sbin/postgrey >$dir/c.out 2>&1") == 0) {
	mkdir "$dir/grey";
	my ($user, $group) = $> == 0 ? ('nobody', 'nogroup') : ((getpwuid $>)[0], (getgrgid $))[0]);
	chown +(getpwnam $user)[2], (getgrnam $group)[2], "$dir/grey";
	chmod 0755, $dir;
	spew("$dir/white", '');
	$pid{postgrey} = spawn("$dir/grey.out", @perl, '-T', "$usr/sbin/postgrey", "--inet=127.0.0.1:$grey_port", "--dbdir=$dir/grey", '--delay=1',
		"--user=$user", "--group=$group", "--whitelist-clients=$dir/white", "--whitelist-recipients=$dir/white");
	$real{postgrey} = wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$grey_port") }, 15);
}
if ($unpacked == 0 && system("@perl -c $usr/sbin/postfix-policyd-spf-perl >$dir/c.out 2>&1") == 0) {
	# what spawn(8) does: a process for each connection, talking to its standard input
	spew("$dir/spawn.pl", q{my ($port, @c) = @ARGV; use IO::Socket::INET; $SIG{CHLD} = 'IGNORE';
		my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 9, ReuseAddr => 1) or die;
		while (my $s = $l->accept) { next if fork; open STDIN, '<&', $s; open STDOUT, '>&', $s; exec @c }});
	$pid{spf} = spawn("$dir/spf.out", $^X, "$dir/spawn.pl", $spf_port, @perl, "$usr/sbin/postfix-policyd-spf-perl");
	$real{spf} = wait_until(sub { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$spf_port") }, 15);
}
diag('no postgrey here') if !$real{postgrey};
diag('no postfix-policyd-spf-perl here') if !$real{spf};

rename "$dir/quick.sock", "$spool/quick";
my $slow = "check_policy_service { inet:127.0.0.1:$slow_port, timeout=40s }";
$mta->configure(smtpd_sender_restrictions => 'check_policy_service unix:quick',
	smtpd_recipient_restrictions => join(', ', $slow, 'check_recipient_access inline:{grey@here.test=grey,spf@here.test=spf}', 'permit'),
	smtpd_relay_restrictions => 'permit_mynetworks, reject', smtpd_restriction_classes => 'grey spf',
	grey => "check_policy_service inet:127.0.0.1:$grey_port", spf => "check_policy_service inet:127.0.0.1:$spf_port",
	smtpd_data_restrictions => "check_policy_service { inet:127.0.0.1:1, try_limit=1, default_action=DUNNO }",
	relayhost => "[127.0.0.1]:$next->{port}", mydestination => '', relay_domains => 'here.test', mynetworks => '127.0.0.0/8');
$mta->launch;

sub rcpt {
	my ($sender, @rcpts) = @_;
	my $c = $mta->smtp;
	$c->cmd('EHLO client.test');
	$c->cmd("MAIL FROM:<$sender>");
	return ($c, map { $c->cmd("RCPT TO:<$_>") } @rcpts);
}

my ($c, @replies) = rcpt('yes@x.test', map { "r$_\@here.test" } 1 .. 5);
is_deeply [ map { s/ .*//sr } @replies ], [ (250) x 5 ], 'five recipients';
$c->quit;
my @r = asked('quick');
is scalar(@r), 5, 'each is asked about';
is_deeply [ map { $_->{connection} } @r ], [ (1) x 5 ], 'over one connection';
is_deeply { map { $_->{instance} => 1 } @r }, { $r[0]{instance} => 1 }, 'they belong together';
($c, @replies) = rcpt('no@x.test', 'r1@here.test');
is $replies[0], "554 5.7.1 <no\@x.test>: Sender address rejected: you are not welcome", 'the server refuses';
$c->quit;

# many at once, of which some hang
my @hanging = map { my ($h) = rcpt('yes@x.test'); $h } 1 .. 12;
$_->send_raw("RCPT TO:<hang\@here.test>\r\n") for @hanging;
ok wait_until(sub { 12 == grep { $_->{recipient} eq 'hang@here.test' } asked('slow') }, 20), 'all are asked about at the same time';
my %used = map { $_->{connection} => 1 } grep { $_->{recipient} eq 'hang@here.test' } asked('slow');
is scalar(keys %used), 12, 'over a connection each';
($c, @replies) = rcpt('no@x.test', 'r1@here.test');
like $replies[0], qr/^554/, 'who asks another service does not wait';
$c->quit;
($c, @replies) = rcpt('yes@x.test', 'r2@here.test');
like $replies[0], qr/^250/, 'nor does who asks the same about something else';
$c->quit;
ok !IO::Select->new(map { $_->{sock} } @hanging)->can_read(0), 'the others still do';

# the lookup worker dies: the next one asks again
spew("$dir/slow", '');
my ($lookup) = grep { $_->{class} eq 'lookup' } $mta->workers;
kill 'KILL', $lookup->{pid};
is_deeply [ map { $_->reply =~ s/ .*//sr } @hanging ], [ (250) x 12 ], 'a lookup worker that is killed harms nobody';
$_->quit for @hanging;
($c, @replies) = rcpt('yes@x.test', map { 'last@here.test' } 1 .. 3);
is_deeply [ map { s/ .*//sr } @replies ], [ (250) x 3 ], 'a server that closes after each answer';
is $c->cmd('DATA') =~ s/ .*//sr, 354, 'a server that is not there, with a default action';
ok $mta->wait_log(qr{smtpd\[\d+\]: warning: problem talking to server 127\.0\.0\.1:1: Connection refused}, 10), 'and the log says so';
like $c->cmd("Subject: x\r\n\r\ntext\r\n."), qr/^250/, 'mail is taken';
$c->quit;

if ($real{postgrey}) {
	($c, @replies) = rcpt('yes@x.test', 'grey@here.test');
	like $replies[0], qr/^450 4\.\d\.\d <grey\@here\.test>: Recipient address rejected: Greylisted/, 'postgrey';
	my $again;
	ok wait_until(sub { ($again = $c->cmd('RCPT TO:<grey@here.test>')) =~ /^250/ }, 15), 'after its delay' or diag $again;
	$c->cmd('DATA');
	like $c->cmd("Subject: grey\r\n\r\ntext\r\n."), qr/^250/, 'the mail is taken';
	$c->quit;
	ok wait_until(sub { $next->got =~ /X-Greylist: delayed .*\r?\n(?:.*\n)*Subject: grey/ }, 20), 'with its header';
}
if ($real{spf}) {
	($c, @replies) = rcpt('yes@x.test', 'spf@here.test');
	like $replies[0], qr/^250/, 'postfix-policyd-spf-perl';
	$c->cmd('DATA');
	like $c->cmd("Subject: spf\r\n\r\ntext\r\n."), qr/^250/, 'the mail is taken';
	$c->quit;
	ok wait_until(sub { $next->got =~ /^Authentication-Results: .*SPF.*\r?\n(?:.*\n)*Subject: spf/m }, 20), 'with its header';
}
my $stats = $mta->http('/metrics') // '';
my ($requests) = $stats =~ /policy_requests(?:_total)?\S* (\d+)/;
cmp_ok $requests // 0, '>', 20, 'requests are counted';
is $mta->stop, 0, 'stops';
is $mta->crashes =~ s/.*lookup.*killed.*\n?//gr, '', 'nothing else crashed';
is $mta->refusals, 0, 'no system call was refused';
$next->stop;
Posthaste::end_child($_) for values %pid;
done_testing;
