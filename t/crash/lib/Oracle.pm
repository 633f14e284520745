# SPDX-License-Identifier: GPL-3.0-or-later
# The one checker of all fault tests. It knows what the clients saw acknowledged (the ids that
# t/bench/load wrote) and looks where those messages are: at the sink (t/bench/sink), in mailboxes,
# in notifications, in the queue. A message is lost when one of its recipients is at none of these.
#
#   my $o = Oracle->new(domain => 'sink.test');
#   $o->sent('round1', 5000);            # prefix (load -t) and how many at most (load -n)
#   $o->acked("$dir/acked1");            # load -o
#   $o->sink($sink);                     # after $sink->finish; or ->sink_file($ids)
#   $o->maildir(glob "$dir/mail/x/new/*");
#   $o->bounces(@texts);                 # notifications
#   $o->queue($mta);                     # what a running instance still holds
#   $o->in_doubt($mta);                  # its list of deliveries in doubt: every duplicate is on it
#   $o->foretold($mta->log);             # but for those that the log warns of
#   my $v = $o->judge('after the cut');  # assertions, and the verdict
package Oracle;
use strict;
use warnings;
use Test::More;
use Posthaste qw(slurp);

# A recipient of t/bench/load: rNUMBER.PREFIX-NUMBER@DOMAIN.
my $recipient = qr/r\d+\.([\w.]+-\d+)\@[\w.-]+/;

my @crc_table = map {
	my $c = $_;
	$c = $c & 1 ? ($c >> 1) ^ 0x82f63b78 : $c >> 1 for 1 .. 8;
	$c;
} 0 .. 255;

sub new {
	my ($class, %opt) = @_;
	return bless { sent => {}, acked => {}, got => {}, bounced => {}, queued => {}, copies => 0,
		damaged => 0, misdelivered => 0, never_sent => 0 }, $class;
}

sub sent {
	my ($self, $prefix, $most) = @_;
	$self->{sent}{$prefix} = $most // 1e9;
	return;
}

# Lines "ID RECIPIENTS" of messages that got their 250. A prefix that nobody announced is announced.
sub acked {
	my ($self, @files) = @_;
	for my $file (@files) {
		for my $line (split /\n/, slurp($file)) {
			my ($id, $n) = $line =~ /^(\S+) (\d+)$/ or next;
			$self->{acked}{$id} = $n;
			my ($prefix) = $id =~ /^(.*)-\d+$/;
			$self->{sent}{$prefix} //= 1e9;
		}
	}
	return scalar keys %{ $self->{acked} };
}

sub acked_ids { return keys %{ $_[0]{acked} } }

sub deliver {
	my ($self, $id, $rcpt) = @_;
	$self->{copies}++;
	my ($prefix, $number) = $id =~ /^(.*)-(\d+)$/;
	if (!defined $prefix || !defined $self->{sent}{$prefix} || $number >= $self->{sent}{$prefix}) {
		$self->{never_sent}++;
		return;
	}
	$self->{got}{$id}{ lc $rcpt }++;
	return;
}

# A finished sink: its verdict on bodies and recipients, and what it was given.
sub sink {
	my ($self, $sink) = @_;
	$self->{damaged}      += $sink->{report}{bad_crc};
	$self->{misdelivered} += $sink->{report}{misdelivered};
	return $self->sink_file("$sink->{dir}/ids");
}

# The sink's "ID RECIPIENT" lines. What has no id (a notification) is written as "-".
sub sink_file {
	my ($self, $file) = @_;
	for my $line (split /\n/, slurp($file)) {
		my ($id, $rcpt) = split ' ', $line;
		$self->deliver($id, $rcpt) if defined $rcpt && $id ne '-';
	}
	return;
}

sub crc32c {
	my ($text) = @_;
	my $c = 0xffffffff;
	$c = ($c >> 8) ^ $crc_table[($c ^ $_) & 0xff] for unpack 'C*', $text;
	return $c ^ 0xffffffff;
}

# Messages in mailboxes, one file each: judged as the sink does, with the recipient they name.
sub maildir {
	my ($self, @files) = @_;
	for my $file (@files) {
		my $text = slurp($file);
		if ($text eq '') { # no mail at all, but a reader would show it as one
			$self->{damaged}++;
			next;
		}
		my ($head, $body) = split /\n\n/, $text, 2;
		$body //= '';
		my ($id)  = $head =~ /^X-Load-Id: (\S+)/m or next; # a notification
		my ($crc) = $head =~ /^X-Load-Crc: (\S+)/m;
		my ($rcpt) = $head =~ /^(?:X-Original-To|Delivered-To): (\S+)/m;
		$body =~ s/\n/\r\n/g;
		$self->{damaged}++ if !defined $crc || hex $crc != crc32c($body);
		$self->{misdelivered}++ if !defined $rcpt || $rcpt !~ /^r\d+\.\Q$id\E@/;
		$self->deliver($id, $rcpt) if defined $rcpt;
	}
	return;
}

# Texts of notifications: each Final-Recipient with Action: failed counts as told.
sub bounces {
	my ($self, @texts) = @_;
	for my $text (@texts) {
		$text =~ s/\r\n/\n/g;
		for my $group (split /\n\n+/, $text) {
			next unless $group =~ /^Action: failed/m;
			next unless $group =~ /^Final-Recipient: rfc822; ($recipient)/mi;
			$self->{bounced}{$2}{ lc $1 }++;
		}
	}
	return;
}

# What a running instance holds.
sub queue {
	my ($self, $mta) = @_;
	my ($rc, $out) = $mta->command('postqueue', '-j');
	die "postqueue -j: $out" if $rc;
	while ($out =~ /"address":\s*"($recipient)"/g) {
		$self->{queued}{$2}{ lc $1 }++;
	}
	return;
}

# The list of deliveries in doubt (postqueue -D): every duplicate must be on it. Called again, it
# adds. Returns how many deliveries the list has. It has no names where the record could not be read:
# then the log tells whose it is.
sub in_doubt {
	my ($self, $mta) = @_;
	my ($rc, $out) = $mta->command('postqueue', '-D', '-j');
	die "postqueue -D -j: $out" if $rc;
	my $count = 0;
	$self->{listed} //= {};
	for my $line (grep { /^\{/ } split /\n/, $out) {
		$count++;
		$self->{listed}{$2}{ lc $1 }++ while $line =~ /"($recipient)"/g;
		next unless $line =~ /"queue_id":\s*"(\w+)".*"recipients":\s*\[\s*\]/;
		my ($id) = $mta->log =~ / $1: message-id=<([\w.]+-\d+)\@/ or next;
		$self->{listed}{$id}{any}++;
	}
	return $count;
}

# What the log says of connections that ended behind the final dot: such a delivery is deferred, and
# may come twice as the log says; it is on no list.
sub foretold {
	my ($self, $log) = @_;
	$self->{foretold}{$2}{ lc $1 } = 1
		while $log =~ / to=<($recipient)>, [^\n]* message may be sent more than once/g;
	return;
}

sub verdict {
	my ($self) = @_;
	my %v = map { $_ => $self->{$_} } qw(damaged misdelivered never_sent copies);
	my (@lost, @twice, @unlisted, %at);
	for my $id (keys %{ $self->{acked} }) {
		my %where = map { $_ => $self->{$_}{$id} || {} } qw(got bounced queued);
		my %all = map { %$_ } values %where;
		push @lost, $id if keys %all < $self->{acked}{$id};
		$at{$_} += keys %{ $where{$_} } for keys %where;
	}
	for my $id (keys %{ $self->{got} }, grep { !$self->{got}{$_} } keys %{ $self->{bounced} }) {
		my ($got, $bounced) = map { $self->{$_}{$id} || {} } qw(got bounced);
		my @more = grep { ($got->{$_} || 0) + ($bounced->{$_} || 0) > 1 } keys %$got, keys %$bounced;
		push @twice, $id if @more;
		push @unlisted, $id if $self->{listed}
			&& grep { ($got->{$_} || 0) > 1 && !$self->{listed}{$id}{$_} && !$self->{listed}{$id}{any}
				&& !$self->{foretold}{$id}{$_} } keys %$got;
	}
	$v{acked}     = keys %{ $self->{acked} };
	$v{delivered} = $at{got} || 0;
	$v{bounced}   = $at{bounced} || 0;
	$v{queued}    = $at{queued} || 0;
	$v{unacked}   = grep { !$self->{acked}{$_} } keys %{ $self->{got} };
	$v{lost}      = [ sort @lost ];
	$v{twice}     = [ sort @twice ];
	$v{unlisted}  = [ sort @unlisted ];
	$v{listed}    = keys %{ $self->{listed} || {} };
	$v{foretold}  = keys %{ $self->{foretold} || {} };
	return \%v;
}

# Some to name. (grep over a slice would lengthen the list.)
sub first_of { my ($list) = @_; return @$list > 10 ? @$list[0 .. 9] : @$list }

# The assertions that hold whatever was done to the system.
sub judge {
	my ($self, $name) = @_;
	my $v = $self->verdict;
	is scalar @{ $v->{lost} }, 0, "$name: none of $v->{acked} acknowledged messages is lost"
		or diag 'lost: ' . join ' ', first_of($v->{lost});
	is $v->{damaged}, 0, "$name: contents are equal";
	is $v->{misdelivered}, 0, "$name: nobody got another's mail";
	is $v->{never_sent}, 0, "$name: nothing was delivered that nobody sent";
	if ($self->{listed}) {
		is scalar @{ $v->{unlisted} }, 0, "$name: every duplicate is on the list of those in doubt"
			or diag 'not on it: ' . join ' ', first_of($v->{unlisted});
	}
	note sprintf '%s: %d copies, %d twice, %d bounced, %d queued, %d delivered without a 250', $name,
		$v->{copies}, scalar @{ $v->{twice} }, $v->{bounced}, $v->{queued}, $v->{unacked};
	return $v;
}

1;
