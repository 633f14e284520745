#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Situations: Debian's Postfix and Posthaste with the same main.cf, the same tables and the same
# dialogues. Replies, results in the log (recipient, original recipient, relay, status) and what the
# next hops get must be the same. t/e2e/situations/*.pl hold them, by subject: settings, tables, and
# dialogues of [ client, sender, recipients, message ] or of plain commands. A fixed part is run in
# every test run, all of them by `make check-long` (or with names of subjects as arguments).
#
# What is different on purpose is taken out before the comparison, in normal_*() below, and nowhere else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my @sample = qw(aliases syntax);
my $why = Peers::obstacle();
plan skip_all => $why if $why;

my @subjects = @ARGV ? @ARGV : ($ENV{POSTHASTE_SITUATIONS} // '') eq 'all'
	? map { m{([^/]+)\.pl$} } glob "$FindBin::Bin/situations/*.pl" : @sample;
$SIG{PIPE} = 'IGNORE'; # 421 ends the connection
my $number = 0; # of the dialogue; a header of each message says it

sub normal_reply {
	my ($reply) = @_;
	$reply =~ s/queued as \w+/queued as QUEUEID/;
	$reply =~ s/^(25\d[ -])(mx\S*).*/$1$2/mg if $reply =~ /^220/;
	# extensions that are not there yet or that Debian's package was built without
	$reply =~ s/^250[ -](?:ETRN|SMTPUTF8|CHUNKING|VRFY|DSN|8BITMIME|SIZE.*|PIPELINING|ENHANCEDSTATUSCODES)\n//mg;
	return $reply;
}

sub normal_content {
	my ($content) = @_;
	$content =~ s/\r//g;
	$content =~ s/^Received: .*\n(?:[ \t].*\n)*//mg;
	$content =~ s/^\.\n.*//ms;
	# a header that is rewritten keeps its folding here
	$content =~ s/^((?:(?:Resent-)?(?:From|To|Cc|Reply-To|Sender)): .*\n(?:[ \t].*\n)*)/$1 =~ s,\s+(?!\z), ,gr/mge;
	# notifications have texts of their own
	$content =~ s/^(Subject: Undelivered Mail Returned to Sender\n).*/$1/ms;
	$content =~ s/^X-Number: \d+\n// if $content =~ /^Subject: Undelivered/m;
	# headers that are added: ours name the queue id only
	$content =~ s/^((?:Resent-)?Message-Id: )<(?:\d{14}\.)?\w+\@(mx\S*)>$/$1<ID\@$2>/mg;
	$content =~ s/^((?:Resent-)?Date: ).*\d\d:\d\d:\d\d.*$/$1NOW/mg;
	return $content;
}

sub normal_text {
	my ($text) = @_;
	$text =~ s/\b(?:said:|refused).*?\(in reply/said (in reply/;
	return $text;
}

# All replies of one dialogue, and the queue ids that were given.
sub talk {
	my ($mta, $port, $d) = @_;
	my ($client, $sender, $rcpts, $message) = @$d;
	my @lines = ref $sender ? @$sender
		: ("EHLO client.test", "MAIL FROM:<$sender>", (map { "RCPT TO:<$_>" } @$rcpts), 'DATA',
			\($message // "Subject: x\n\nbody\n"), 'QUIT');
	my $smtp = eval { $mta->smtp($port, $client eq 'out' ? '127.0.0.2' : '127.0.0.1') }
		or die 'greeting of ' . ($port // 'posthaste') . ": $@";
	my (@replies, @qids);
	for my $line (@lines) {
		my $text = ref $line ? "X-Number: $number\n$$line" : $line;
		if (ref $line) {
			next unless $replies[-1] =~ /^354/;
			$text =~ s/\r?\n/\r\n/g;
			$text =~ s/^\./../mg;
			$text .= '.';
		}
		my $reply = $smtp->cmd($text) // '(closed)';
		push @qids, $1 if $reply =~ /queued as (\w+)/;
		push @replies, normal_reply($reply);
		last if $reply eq '(closed)';
	}
	return { replies => [ map { ref $lines[$_] ? "(content): $replies[$_]" : "$lines[$_]: $replies[$_]" } grep { defined $replies[$_] } 0 .. $#lines ],
		qids => \@qids };
}

# { number => [ results ] } of the queue ids in `$of` (id => number).
sub results {
	my ($log, $of) = @_;
	my %got;
	while ($log =~ /: (\w+): (to=<.*?>(?:, orig_to=<.*?>)?, relay=\S+?),.*? (dsn=[\d.]+, status=\w+) \((.*)\)$/mg) {
		push @{ $got{ $of->{$1} } }, "$2, $3 (" . normal_text($4) . ')' if $of->{$1};
	}
	$got{$_} = [ sort @{ $got{$_} } ] for keys %got;
	return \%got;
}

# { number => "recipients and content" } of what a next hop got, each connection by itself.
sub arrived {
	my ($got, $name, $text) = @_;
	while ($text =~ /^(MAIL FROM.*?\n)((?:RCPT TO.*?\n)+)DATA[^\n]*\n(.*?)(?=^MAIL FROM|\z)/msg) {
		my ($mail, $rcpt, $content) = ($1, $2, $3);
		next unless $content =~ /^X-Number: (\d+)/m;
		my $n = $1;
		$mail =~ s/ BODY=.*// if $mail =~ /<>/; # ours announce 8 bits when they have some
		push @{ $got->{$n} }, "at $name\n" . join('', map { /(<[^>]*>)(?:.*( BODY=\w+))?/ ? $1 . ($2 // '') . "\n" : () } $mail, sort split /^/, $rcpt)
			. normal_content($content);
	}
	return;
}

# One file has one setting, or a list of them.
sub run_subject {
	my ($subject) = @_;
	my $s = do "$FindBin::Bin/situations/$subject.pl" or die "$subject: " . ($@ || $!);
	my @settings = ref $s eq 'ARRAY' ? @$s : $s;
	run_setting(@settings > 1 ? "$subject/$_" : $subject, $settings[ $_ - 1 ]) for 1 .. @settings;
	return;
}

sub run_setting {
	my ($subject, $s) = @_;
	my $dir = tempdir('posthaste-situations-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	chmod 0755, $dir;
	my (%hop, %main);
	for my $who (qw(postfix posthaste)) {
		my %h = map { $_ => Posthaste->recorder('whole', @{ $s->{rules} || [] }, @{ $s->{hops}{$_} || [] }) } qw(a b c);
		my $fill = sub { $_[0] =~ s/DIR/$dir\/$who/gr =~ s/HOP([A-C])/"[127.0.0.1]:$h{lc $1}{port}"/ger };
		my %m = (myhostname => 'mx.here.test', mydomain => 'here.test', mydestination => '', mynetworks => '127.0.0.1/32',
			default_destination_concurrency_limit => 1, smtpd_peername_lookup => 'no', smtpd_banner => 'mx ESMTP',
			minimal_backoff_time => '1h', relayhost => 'HOPA', virtual_mailbox_domains => '', inet_protocols => 'ipv4',
			%{ $s->{main} });
		mkdir "$dir/$who";
		spew("$dir/$who/$_", $fill->($s->{tables}{$_})) for keys %{ $s->{tables} || {} };
		$main{$who} = { map { $_ => $fill->($m{$_}) } keys %m };
		$hop{$who} = \%h;
	}
	my ($names, $server, %name_server);
	if ($s->{dns}) {
		$server = sprintf '127.53.%d.%d', $$ >> 8 & 255, $$ & 255;
		spew("$dir/zone", $s->{dns});
		$names = Posthaste::spawn("$dir/dns.out", $^X, "$FindBin::Bin/lib/dns.pl", "$server:53", "$dir/zone");
		wait_until(sub { -e "$dir/zone.log" }, 10) or die slurp("$dir/dns.out");
		%name_server = (prepare => sub { spew("$_[0]{dir}/resolv.conf", "nameserver $server\n") });
		$main{posthaste}{resolver_nameservers} = $server;
	}
	my $postfix = Peers->postfix(home => 'here.test', next => 1, %name_server, main => join '', map { "$_ = $main{postfix}{$_}\n" } sort keys %{ $main{postfix} })
		or die "Postfix does not run\n";
	my $mta = Posthaste->start(main => { compatibility_level => '3.6', %{ $main{posthaste} } });
	my (@told, %of);
	for my $d (@{ $s->{dialogues} }, @{ $s->{more} || [] }) {
		$number++;
		my %said = (postfix => talk($mta, $postfix->{port}, $d), posthaste => talk($mta, undef, $d));
		my $name = "$number " . (ref $d->[1] ? $d->[1][-1] : "<$d->[1]> to " . join ',', map { "<$_>" } @{ $d->[2] });
		push @told, { number => $number, name => "$subject: $name", said => \%said };
		$of{$_}{$number} = $said{$_}{qids} for keys %said;
	}
	my (%results, %got);
	my %log = (postfix => sub { $postfix->log }, posthaste => sub { $mta->log });
	for my $who (qw(postfix posthaste)) {
		my %number_of = map { my $n = $_; map { ($_ => $n) } @{ $of{$who}{$n} } } keys %{ $of{$who} };
		# everything has left or waits, and so have the notifications about it
		wait_until(sub {
			my $log = $log{$who}->();
			my @about = $log =~ /notification: (\w+)$/mg;
			return !grep { $log !~ /: $_: (?:removed|to=<.*status=deferred)/ } @about, keys %number_of;
		}, 30);
		my $log = $log{$who}->();
		$log =~ s/\]:$hop{$who}{$_}{port}\b/]:HOP$_/g for keys %{ $hop{$who} };
		$results{$who} = results($log, \%number_of);
	}
	for my $who (keys %hop) {
		arrived($got{$who} ||= {}, $_, $hop{$who}{$_}->got) for sort keys %{ $hop{$who} };
	}
	for my $t (@told) {
		my $n = $t->{number};
		is_deeply $t->{said}{posthaste}{replies}, $t->{said}{postfix}{replies}, "$t->{name}: replies"
			or diag explain [ map { $t->{said}{$_}{replies} } qw(posthaste postfix) ];
		is_deeply $results{posthaste}{$n}, $results{postfix}{$n}, "$t->{name}: results"
			or diag explain [ map { $results{$_}{$n} } qw(posthaste postfix) ];
		is join("\n", sort @{ $got{posthaste}{$n} || [] }), join("\n", sort @{ $got{postfix}{$n} || [] }), "$t->{name}: what arrived";
	}
	is $mta->stop, 0, "$subject: stop";
	$postfix->stop;
	$_->stop for map { values %$_ } values %hop;
	Posthaste::end_child($names) if $names;
	return;
}

run_subject($_) for @subjects;
note "$number situations";
done_testing;
