# SPDX-License-Identifier: GPL-3.0-or-later
# Parts of a campaign in processes of their own, some at a time: most of their time is waiting. What a
# part asserts, notes and counts appears in the story as if it had run there, part by part.
#
#   my $r = SideBySide::run($campaign, 3, [ 'smtpd' => sub { ...; return { lost => 0 } } ], ...);
#   $r->{smtpd}{lost}
package SideBySide;
use strict;
use warnings;
use Disk;
use File::Temp qw(tempdir);
use JSON::PP;
use Posthaste qw(slurp spew);
use Test::More;
use Time::HiRes qw(time);

my %running; # pid => name
my $owner = $$;

# Numbers that do not depend on which part came first.
sub state_of {
	my ($campaign, $name) = @_;
	my $h = 0;
	$h = ($h * 31 + ord $_) & 0x7fffffff for split //, $name;
	return $campaign->seed ^ $h;
}

sub part {
	my ($campaign, $name, $code, $place, $file) = @_;
	my $tap = Test::More->builder;
	%running = ();
	Posthaste::on_my_own();
	Disk::on_my_own();
	Posthaste::free_port() for 1 .. $place * 200; # a range of its own
	$tap->reset;
	$tap->no_ending(1);
	open my $out, '>', "$file.tap" or die "$file.tap: $!";
	$out->autoflush(1);
	$tap->$_($out) for qw(output failure_output todo_output);
	@$campaign{qw(points figures notes state)} = (0, [], [], state_of($campaign, $name));
	my $began = time;
	my $result = eval { $code->() };
	my $died = $@;
	fail("$name: ran") || diag $died unless $result;
	note sprintf '%s: %.0f s', $name, time - $began;
	spew($file, encode_json({ result => $result || {}, map { $_ => $campaign->{$_} } qw(points figures notes) }));
	exit 0;
}

# What the part said, said again here.
sub repeat {
	my ($text) = @_;
	my $bad = 0;
	for my $line (split /\n/, $text) {
		if ($line =~ /^ok \d+ # skip (.*)/) {
			pass("skipped: $1");
		} elsif ($line =~ /^(not )?ok \d+ - (.*)/) {
			$bad = !ok !$1, $2;
		} elsif ($line =~ /^# (?!\s*(?:Failed test|at \S+ line))(.*)/) {
			$bad ? diag $1 : note $1;
		}
	}
	return;
}

sub ended {
	my ($campaign, $name, $file) = @_;
	repeat(slurp("$file.tap"));
	my $json = slurp($file);
	ok $json ne '', "$name: came to its end" or return {};
	my $r = decode_json($json);
	$campaign->points($r->{points});
	push @{ $campaign->{$_} }, @{ $r->{$_} } for qw(figures notes);
	return $r->{result};
}

sub run {
	my ($campaign, $width, @parts) = @_;
	my ($dir, $n, %result) = (tempdir(CLEANUP => 1), 0);
	while (@parts || %running) {
		if (@parts && keys %running < $width) {
			my ($name, $code) = @{ shift @parts };
			my $place = $n++ % 40;
			my $pid = fork // die "fork: $!";
			part($campaign, $name, $code, $place, "$dir/$n") if !$pid;
			$running{$pid} = [ $name, "$dir/$n" ];
			next;
		}
		my $pid = waitpid -1, 0;
		last if $pid < 0;
		my $part = delete $running{$pid} or next;
		$result{ $part->[0] } = ended($campaign, @$part);
	}
	return \%result;
}

# They clean up after themselves.
END {
	if ($$ == $owner && %running) {
		my $status = $?;
		kill 'TERM', keys %running;
		waitpid $_, 0 for keys %running;
		$? = $status;
	}
}

1;
