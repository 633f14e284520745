#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Debian's Postfix and Posthaste with the same policy server and the same dialogues: the same requests, attribute by
# attribute and in every protocol state, the same replies to whatever the server answers, the same log lines about it
# and about servers that are down, silent or talk nonsense. A part of it in every test run, all by `make check-long`
# (or the one that is named as argument).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port spawn);
use Peers;
use Test::More;
use File::Temp qw(tempdir);

my $why = Peers::obstacle();
plan skip_all => $why if $why;
$SIG{PIPE} = 'IGNORE';
my $dir = tempdir('posthaste-policy-XXXXXX', TMPDIR => 1, CLEANUP => 1);

# what the server answers, by recipient
my %answer = (
	ok => 'OK', reject => 'REJECT', text => 'REJECT go away', dsn => 'REJECT 5.1.2 go away', dunno => 'DUNNO and more',
	defer => 'DEFER', later => 'DEFER_IF_PERMIT Greylisted for 300 seconds', maybe => 'DEFER_IF_REJECT not sure',
	code => '550 5.7.1 by code', soft => '450 come again', digits => '12345', info => 'INFO seen', warn => 'WARN seen',
	prepend => 'PREPEND X-Policy: yes', badhead => 'PREPEND nonsense', filter => 'FILTER nonsense', hold => 'HOLD kept',
	list => 'reject_unauth_destination, reject', class => 'greylist', table => 'check_sender_access hash:/x', redirect => 'REDIRECT x',
	bcc => 'BCC nobody', odd => 'no such thing', empty => '', discard => 'DISCARD gone', relay => 'RELAY',
	none => '=RAW what=is this\\n\\n', first => '=RAW other=1\\naction=REJECT first\\naction=OK\\n\\n', noequals => '=RAW action\\n\\n',
	close => '=CLOSE', spaces => '=RAW action= reject\\n\\n', half => '=RAW acti', case => 'reject in small letters', bad8 => "REJECT \xff",
);
my @rules = map { "recipient=$_\@here.test\t$answer{$_}" } sort keys %answer;
my @failing = qw(none noequals close half); # Postfix uses the same connection once more, in vain
my %apart = map { $_ => 1 } qw(discard hold), @failing; # those change what follows
my @names = grep { !$apart{$_} } sort keys %answer;

my @everything = map { "smtpd_${_}_restrictions" } qw(client helo sender relay recipient data end_of_data etrn);
my @settings = (
	{ name => 'every state', sample => 1, rules => [ 'protocol_state=RCPT sender=no@else.test	REJECT no' ],
		main => { map({ $_ => "check_policy_service SERVER" } @everything),
			smtpd_relay_restrictions => 'reject_unauth_destination', smtpd_policy_service_policy_context => 'all of them' },
		dialogues => [
			[ 'EHLO client.test', 'MAIL FROM:<Some.One@Else.Test> SIZE=1234', 'RCPT TO:<one@here.test>', 'RCPT TO:<two+x@here.test>',
				'DATA', "Subject: x\r\n\r\ntext\r\n.", 'MAIL FROM:<>', 'RCPT TO:<one@here.test>', 'DATA', "x: y\r\n\r\n.", 'QUIT' ],
			[ 'HELO client.test', 'VRFY one@here.test', 'ETRN here.test', 'MAIL FROM:<no@else.test>', 'RCPT TO:<one@here.test>', 'RSET',
				'VRFY two@here.test', 'QUIT' ],
			[ 'MAIL FROM:<"a b"@else.test>', 'RCPT TO:<"c d"@here.test>', 'QUIT' ],
			[ 'EHLO [127.0.0.1]', 'MAIL FROM:<b@else.test>', 'RCPT TO:<one@here.test>', 'BDAT 11 LAST' . "\r\nx: y\r\n\r\nz", 'QUIT' ] ] },
	{ name => 'at once', main => { smtpd_delay_reject => 'no', smtpd_relay_restrictions => 'reject_unauth_destination',
			map { ("smtpd_${_}_restrictions" => 'check_policy_service SERVER') } qw(client helo sender etrn) },
		rules => [ 'protocol_state=HELO	REJECT wrong name', "protocol_state=MAIL sender=hold\@else.test	HOLD" ],
		dialogues => [ [ 'HELO client.test', 'EHLO client.test', 'MAIL FROM:<a@else.test>', 'RSET', 'MAIL FROM:<hold@else.test>', 'RCPT TO:<one@here.test>',
			'RSET', 'ETRN here.test', 'QUIT' ] ] },
	{ name => 'answers', sample => 1, rules => \@rules,
		main => { smtpd_recipient_restrictions => 'check_policy_service { SERVER, try_limit=1 }, permit', smtpd_relay_restrictions => 'permit_mynetworks, reject',
			smtpd_policy_service_timeout => '1s', smtpd_restriction_classes => 'greylist', greylist => 'reject_non_fqdn_recipient, reject' },
		dialogues => [ [ 'EHLO client.test', 'MAIL FROM:<a@else.test>', map({ "RCPT TO:<$_\@here.test>" } @names), 'RCPT TO:<hold@here.test>',
				'RCPT TO:<discard@here.test>', 'RCPT TO:<reject@here.test>', 'QUIT' ],
			map { [ 'EHLO client.test', 'MAIL FROM:<a@else.test>', "RCPT TO:<$_\@here.test>", 'QUIT' ] } @failing ] },
	{ name => 'no server', main => { smtpd_relay_restrictions => 'permit_mynetworks, reject', smtpd_sender_restrictions => 'greylist',
			smtpd_restriction_classes => 'greylist', greylist => 'check_policy_service { inet:127.0.0.1:1, try_limit=1, default_action=DUNNO }',
			smtpd_policy_service_timeout => '1s', smtpd_policy_service_try_limit => 1,
			smtpd_recipient_restrictions => 'check_policy_service inet:127.0.0.1:1, permit',
			smtpd_data_restrictions => 'check_policy_service { inet:127.0.0.1:1 {default_action = 450 4.7.1 come again} }' },
		dialogues => [ [ 'EHLO client.test', 'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'QUIT' ] ] },
	{ name => 'a silent server', rules => [ "recipient=hang\@here.test	=HANG" ],
		main => { smtpd_relay_restrictions => 'permit_mynetworks, reject', smtpd_recipient_restrictions => 'check_policy_service SERVER, permit',
			smtpd_policy_service_timeout => '1s', smtpd_policy_service_try_limit => 1,
			smtpd_policy_service_default_action => 'warn_if_reject, reject_non_fqdn_sender, check' },
		dialogues => [ [ 'EHLO client.test', 'MAIL FROM:<a@else.test>', 'RCPT TO:<one@here.test>', 'RCPT TO:<hang@here.test>', 'QUIT' ] ] },
);

# Of Postfix 3.7 there are fewer.
my $newer = qr/^(?:tls_sni|compatibility_level|mail_version)=/;

sub requests {
	my ($text, $dialogues) = @_;
	my (%seen, @all);
	my @requests = split /\n\n/, $text;
	# whether it has started was also asked by connecting
	my $probes = grep({ /^protocol_state=CONNECT$/m } @requests) - $dialogues;
	shift @requests while $probes-- > 0;
	for my $r (@requests) {
		my @lines = grep { !/$newer/ && !/^connection=/ } split /\n/, $r;
		for (@lines) {
			s/^(queue_id)=\w+$/$1=QID/;
			s/^(instance)=(\w+\.\S+)$/"$1=" . ($seen{$2} ||= 1 + keys %seen)/e;
			s/^(client_port|server_port)=\d+$/$1=PORT/;
		}
		push @all, join "\n", @lines;
	}
	return \@all;
}

sub log_lines {
	my ($log, $port) = @_;
	my @lines;
	for (split /\n/, $log) {
		next unless m{(?:smtpd|proxymap)\[\d+\]: (.*)};
		my $text = $1;
		# the server's refusals, and what it says about policy servers; some texts about tables are our own
		next unless $text =~ /\b(?:talking to|connect to|while reading|missing|input from|policy|UTF-8)\b|: (?:reject|info|warn|hold|discard|filter): /;
		next if $text =~ /^(?:connect|disconnect|warning: (?:access table|unknown))/;
		$text =~ s/\b$port\b/PORT/g;
		$text =~ s/^\w+: (reject|info|warn|hold|discard|filter):/QID: $1:/;
		push @lines, $text;
	}
	return \@lines;
}

sub play {
	my ($name, $s, $start) = @_;
	my $port = free_port();
	my $file = "$dir/$name";
	unlink glob "$file*";
	spew($file, join '', map { "$_\n" } @{ $s->{rules} || [] });
	my $pid = spawn("$file.out", $^X, "$FindBin::Bin/lib/policyserver.pl", $port, $file);
	wait_until(sub { -e "$file.ready" }, 20) or die 'no policy server';
	my $next = Posthaste->recorder;
	my %main = (myhostname => 'mx.here.test', mydestination => 'here.test', local_recipient_maps => '', mynetworks => '127.0.0.0/8', relayhost => "[127.0.0.1]:$next->{port}",
		local_transport => "smtp:[127.0.0.1]:$next->{port}", smtpd_peername_lookup => 'no', alias_maps => '', recipient_delimiter => '+',
		smtpd_soft_error_limit => 100, smtpd_hard_error_limit => 100, fast_flush_domains => '',
		map { $_ => $s->{main}{$_} =~ s/SERVER/inet:127.0.0.1:$port/gr } keys %{ $s->{main} });
	my $mta = $start->(\%main, $next->{port}) or die "no $name";
	my @replies;
	my $sessions = $name eq 'postfix' ? 1 : 0;    # whether Postfix has started was asked by connecting
	for my $d (@{ $s->{dialogues} }) {
		my $c = Posthaste::Client->new($mta->{port});
		push @replies, "$_: " . ($c->cmd($_) // '(closed)') for @$d;
		# Postfix may notice only between sessions that the policy server has closed its connection
		$sessions++;
		wait_until(sub { (() = $mta->log =~ / disconnect from /g) >= $sessions }, 20);
	}
	my $log = $mta->log;
	$mta->stop;
	$next->stop;
	Posthaste::end_child($pid);
	@replies = grep { !/^(?:EHLO|ETRN)/ } map { s/queued as \w+/queued/r =~ s/\s+\z//r } @replies;
	s/^(Subject|x): .*\.: /content: /s, s/\b$port\b/PORT/g for @replies;
	return { replies => \@replies, requests => requests(-e "$file.asked" ? slurp("$file.asked") : '', scalar @{ $s->{dialogues} }), log => log_lines($log, $port) };
}

for my $s (@settings) {
	next if @ARGV ? $s->{name} ne $ARGV[0] : !$s->{sample} && ($ENV{POSTHASTE_SITUATIONS} // '') ne 'all';
	my $theirs = play('postfix', $s, sub {
		my ($main, $hop) = @_;
		return Peers->postfix(home => 'home.test', next => $hop, main => join '', map { "$_ = $main->{$_}\n" } sort keys %$main);
	});
	my $ours = play('posthaste', $s, sub { my ($main) = @_; return Posthaste->start(main => $main) });
	is_deeply $ours->{$_}, $theirs->{$_}, "$s->{name}: the same $_"
		or diag explain $ours->{$_}, $theirs->{$_} for qw(replies requests log);
}
done_testing;
