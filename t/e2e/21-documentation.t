#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The documents say what is: statistics, counters, man pages and the options of the programs, links.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(run_ok slurp wait_until);
use JSON::PP;
use Test::More;

my $top = Posthaste::top();

# counters: the table of doc/statistics.md is shm/counters.inc
my (@rows, @documented);
for (split /\n/, slurp("$top/shm/counters.inc") =~ s/,\n\s+/, /gr) {
	push @rows, "$2|\L$1\E" . ($1 eq 'HISTOGRAM' ? ", $3" : '') . "|$4"
		if /^(COUNTER|GAUGE|HISTOGRAM)\((\w+), (?:"(\w+)", )?"(.*)"\)/;
}
my $statistics = slurp("$top/doc/statistics.md");
my ($fields, $counters) = $statistics =~ /^## Fields.*?\n(.*)^## Counters\n(.*)/ms;
push @documented, "$1|$2|$3" while $counters =~ /^\| `(\w+)` \| (\w+(?:, \w+)?) \| (.*) \|$/mg;
cmp_ok scalar(@rows), '>', 30, 'counters.inc was read';
is_deeply \@documented, \@rows, 'every counter, its kind and meaning';

# fields: what doc/statistics.md names, "a.b, .c" standing for a.b and a.c
my %doc;
while ($fields =~ /^\| (`.*?`(?:[^|]*`.*?`)*) \| [^|]*\| ([^|]*)/mg) {
	my ($names, $text) = ($1, $2);
	my $group = '';
	for my $name ($names =~ /`([^`]+)`/g) {
		$name = $name =~ s/^(?=\.)/$group/r;
		$group = $1 if $name =~ /^(.*)\./;
		my @all = $names =~ /\.a` \.\. `\.d/ && $name =~ /^(.*\.)a$/ ? map { "$1$_" } 'a' .. 'd' : $name;
		$doc{$_} = 1 for @all;
		if ($name =~ /\[\]$/) {
			$doc{"$name.$_"} = 1 for $text =~ /`(\w+)`/g;
		}
	}
}
my $hop = Posthaste->recorder;
my $mta = Posthaste->start(main => { relayhost => "[127.0.0.1]:$hop->{port}",
	initial_destination_concurrency => 1 });
my $smtp = $mta->smtp;
$smtp->ok('EHLO x.example');
$smtp->mail('a@x.example', 'b@y.example', "Subject: x\n\n");
$smtp->quit;
ok $mta->wait_log(qr/removed/), 'a message went through' or diag $mta->log_tail;
my ($body) = $mta->http('/stats') =~ /\r\n\r\n(.*)/s;
my $stats = decode_json($body);
my %real;

sub walk {
	my ($path, $v) = @_;
	if (ref $v eq 'ARRAY') {
		walk("${path}[]", $_) for @$v;
		$real{"${path}[]"} = 1;
	} elsif (ref $v eq 'HASH' && !exists $v->{buckets} && $path !~ /^(?:counters|gauges|histograms)$/
		&& $path !~ /^destinations\.(?:other|total)$/) {
		walk($path eq '' ? $_ : "$path.$_", $v->{$_}) for keys %$v;
	} else {
		$real{ $path =~ /^workers\.(?!alive$|restarts$)/ ? 'workers.CLASS' : $path } = 1;
	}
	return;
}
walk('', $stats);
my %inc = map { (split /\|/)[0, 1] } @rows;
for my $kind (qw(counter gauge)) {
	is_deeply [ sort keys %{ $stats->{"${kind}s"} } ], [ sort grep { $inc{$_} eq $kind } keys %inc ],
		"/stats lists every $kind";
}

# the queue as JSON, with the names Postfix gives
Posthaste::end_child($hop->{pid});
$smtp = $mta->smtp;
$smtp->ok('EHLO x.example');
$smtp->mail('a@x.example', [ 'b@y.example', 'c@y.example' ], "Subject: x\n\n");
$smtp->quit;
ok $mta->wait_log(qr/status=deferred/), 'deferred';
my ($rc, $out) = $mta->command('postqueue', '-j');
my @lines = split /\n/, $out;
is scalar(@lines), 1, 'one line of JSON';
my $m = decode_json($lines[0]);
is_deeply [ sort keys %$m ], [ qw(arrival_time forced_expire message_size queue_id queue_name recipients sender) ],
	'the fields of postqueue -j';
is scalar(@{ $m->{recipients} }), 2, 'both recipients';
is_deeply [ sort keys %{ $m->{recipients}[0] } ], [ qw(address delay_reason) ], 'fields of a recipient';

# a destination that is out of order has one field more
$smtp = $mta->smtp;
$smtp->ok('EHLO x.example');
$smtp->mail('a@x.example', 'b@y.example', "Subject: x\n\n") for 1 .. 8;
$smtp->quit;
ok wait_until(sub { $mta->http('/stats') =~ /suspend_reason/ }, 20), 'the destination is suspended';
($body) = $mta->http('/stats') =~ /\r\n\r\n(.*)/s;
walk('', decode_json($body));
is_deeply [ sort keys %real ], [ sort keys %doc ], 'every field of /stats is documented, and only these'
	or diag join ' ', map({ "+$_" } grep { !$doc{$_} } sort keys %real),
	map { "-$_" } grep { !$real{$_} } sort keys %doc;

($rc, $out) = $mta->command('postconf', '-n');
is $rc, 0, 'postconf -n';
unlike $out, qr/warning/, '... warns of nothing';
$mta->stop;

# man pages: the options a program takes, by its usage text, are in its page
for my $program (qw(posthaste.8 postconf.1 postmap.1 postalias.1 newaliases.1 postqueue.1 mailq.1
	postsuper.1 postcat.1 sendmail.1 postdrop.1 postlog.1 postlock.1 postkick.1 qshape.1 postmulti.1)) {
	my ($name) = $program =~ /(\w+)/;
	my $page = slurp("$top/doc/$program");
	$page = slurp("$top/doc/$1") if $page =~ m{^\.so man\d/(\S+)}m;
	ok $page =~ /^\.TH \w+ \d/m, "$program is there";
	next if $page !~ /^\.SH (?:"?OPTIONS)/m && $name ne 'postconf';
	my (undef, $usage) = run_ok(Posthaste::prefix() . "/sbin/$name", '--nonesuch');
	$usage =~ s/.*?usage: \S+//s;
	$usage =~ s/\n.*//s;
	my %takes = map { $_ => 1 } map { split // } $usage =~ /(?<![\w-])-([A-Za-z#]+)\b/g, $usage =~ /-(#)/g;
	$page =~ s/\\f[BIRP]//g;
	my %says = map { $_ => 1 } $page =~ /(?<![A-Za-z0-9])\\-([A-Za-z#])(?![A-Za-z-])/g;
	is_deeply [ grep { !$says{$_} } sort keys %takes ], [], "$program tells every option";
}

# links between the documents
for my $file ("$top/README.md", glob "$top/doc/*.md") {
	my ($dir) = $file =~ m{(.*)/};
	my @dead = grep { !/^https?:/ && !-e "$dir/$_" } slurp($file) =~ /\]\(([^)#]+)/g;
	is "@dead", '', "links of $file resolve";
}
done_testing;
