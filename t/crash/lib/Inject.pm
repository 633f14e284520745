# SPDX-License-Identifier: GPL-3.0-or-later
# Faults at system calls of an instance (t/crash/inject.c), for the campaigns.
#
#   my $i = Inject->new(dir => $mta->{dir});
#   $i->launch($mta, 'storage', @rules);           # start it under the injector
#   $i->arm("class=rewrite path=$mta->{dir}/spool action=kill nth=7");
#   ... load ...
#   $i->acted(1); $i->count(1)->{rewrite}{fdatasync};
#   $i->kill;                                      # end all of it at once
package Inject;
use strict;
use warnings;
use Carp qw(croak);
use IO::Socket::UNIX;
use Posthaste qw(run_ok slurp wait_until);
use Scalar::Util qw(weaken);

my @started; # in this process

sub program { return Posthaste::build_dir() . '/t/crash/inject' }

# Why it cannot be used here; '' when it can.
sub unusable {
	-x program() or return 'the injector is not built';
	my ($rc, $out) = run_ok(program(), '--', 'true');
	return $rc == 0 ? '' : "no ptrace or seccomp here: $out";
}

sub new {
	my ($class, %opt) = @_;
	my $self = bless { dir => $opt{dir}, runs => 0, owner => $$ }, $class;
	push @started, $self;
	weaken $started[-1];
	return $self;
}

# A fresh injector with its command; returns (status, output) of the command. What it started is
# followed until all of it has ended.
sub run {
	my ($self, $calls, @cmd) = @_;
	my @rules;
	push @rules, '-r', shift @cmd while $cmd[0] =~ /^\w+=/;
	delete $self->{sock};
	$self->{runs}++;
	return run_ok(program(), '-b', '-c', $calls, '-s', "$self->{dir}/inject.sock", '-o',
		$self->log_file, @rules, '--', @cmd);
}

# Start an instance. try() is for rules that may end it at once: (status, output) of the start.
sub launch {
	my ($self, $mta, $calls, @rules) = @_;
	my ($rc, $out) = $self->try($mta, $calls, @rules);
	croak "start failed: $out" . $mta->log_tail if $rc;
	return;
}

sub try {
	my ($self, $mta, $calls, @rules) = @_;
	local $ENV{POSTHASTE_CLOCK}  = "$mta->{dir}/clock";
	local $ENV{POSTHASTE_STDERR} = "$mta->{dir}/stderr";
	my @r = $self->run($calls, @rules, Posthaste::prefix() . '/sbin/posthaste', '-c',
		"$mta->{dir}/conf", 'start');
	$mta->{running} = 1 if $r[0] == 0;
	return @r;
}

# A command on its own under rules, beside what runs; (status, output), 137 when it was killed.
sub apart {
	my ($self, $mta, $rule, $name, @args) = @_;
	local $ENV{POSTHASTE_CLOCK}  = "$mta->{dir}/clock";
	local $ENV{POSTHASTE_STDERR} = "$mta->{dir}/stderr";
	return run_ok(program(), '-c', 'all', '-o', $self->log_file, '-r', $rule, '--',
		Posthaste::prefix() . "/sbin/$name", '-c', "$mta->{dir}/conf", @args);
}

sub log_file { return "$_[0]{dir}/inject.log" }
sub log { return slurp(log_file($_[0])) }

# One command to the control socket; its answer without the last line.
sub ask {
	my ($self, $line) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $s = $self->{sock} ||= IO::Socket::UNIX->new(Peer => "$self->{dir}/inject.sock")
		or croak "the injector has ended: $!";
	print $s "$line\n";
	$s->flush;
	my $text = '';
	while (defined(my $l = readline $s)) {
		return $text if $l eq ".\n";
		croak "$line: $1" if $l =~ /^!(.*)/;
		$text .= $l;
	}
	delete $self->{sock};
	croak 'the injector has ended';
}

sub arm { my ($self, @rules) = @_; $self->ask("arm $_") for @rules; return }
# Rules that each begin to count when the one before has acted; numbered from 1.
sub arm_chain {
	my ($self, @rules) = @_;
	my $id = 0;
	return $self->arm(map { $id++; "id=$id " . ($id > 1 ? 'after=' . ($id - 1) . ' ' : '') . $_ } @rules);
}
sub disarm { my ($self, $id) = @_; $self->ask('disarm ' . ($id || 0)); return }

# { class => { call => times } } as the rule saw them.
sub count {
	my ($self, $id) = @_;
	$id ||= 1;
	my %n;
	my $text = $self->ask('count');
	$n{$1}{$2} = $3 while $text =~ /^count $id (\S+) (\S+) (\d+)$/mg;
	return \%n;
}

# How often the rule matched, and acted.
sub seen { my ($self, $id) = @_; return $self->ask('rules') =~ /^rule @{[$id || 1]} \S+ seen=(\d+)/m ? $1 : 0 }
sub acted { my ($self, $id) = @_; return $self->ask('rules') =~ /^rule @{[$id || 1]} .* acted=(\d+)/m ? $1 : 0 }

# False when nothing is left that is followed.
sub alive {
	my ($self) = @_;
	return eval { $self->ask('status'); 1 } || 0;
}

# SIGKILL to every process at once; returns when they are gone.
sub kill {
	my ($self, $mta) = @_;
	eval { $self->ask('kill') };
	wait_until(sub { !$self->alive }, 20) or croak 'the injector does not end';
	delete $mta->{running} if $mta;
	return;
}

# A story that is ended in the middle of a start leaves nothing behind.
END {
	my $status = $?;
	for my $i (grep { $_ && $_->{owner} == $$ && $_->{runs} } @started) {
		eval { $i->ask('kill') };
	}
	$? = $status;
}

1;
