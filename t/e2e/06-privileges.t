#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# The table of doc/SECURITY.md that says what each process may do is what scripts/privileges reads from a
# running system. When this fails because the rights have changed, put its output into the page:
# POSTHASTE_WRITE_TABLE=1 t/e2e/06-privileges.t
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until);
use Test::More;

plan skip_all => 'needs root' if $> != 0;

my $page = Posthaste::top() . '/doc/SECURITY.md';
my ($before, $table, $after) = slurp($page) =~ /\A(.*<!-- scripts\/privileges -->\n)(.*?)(<!-- end -->.*)\z/s;
ok defined $table, 'the page has a place for the table';

my $mta = Posthaste->start(main => { map { $_ . '_workers' => 1 } qw(smtpd rewrite deliver local) });
# idle, with the files open that a worker keeps open; a child of local delivery is not there
my ($said, $reader, $priv) = ('', Posthaste::top() . '/scripts/privileges', $mta->master_pid);
wait_until(sub { $said = `"$^X" "$reader" $priv`; $said eq $table }, 5);
spew($page, "$before$said$after") if $ENV{POSTHASTE_WRITE_TABLE};
my @is  = split /\n/, $said;
my @was = split /\n/, $table;
is scalar @is, scalar @was, 'as many processes as the page has';
is $is[$_], $was[$_], 'line ' . ($_ + 1) . ' of the table is true' for 0 .. $#is;

# and what no table should have to say
my @rows = map { [ split / \| / ] } @is[2 .. $#is];
for my $r (@rows) {
	my ($name, $user, undef, $caps, $had, $by_exec) = @$r;
	$name =~ s/^\| //;
	# commands that get mail may need some (sendmail's set-gid postdrop), and so those who start them
	is $by_exec, $name =~ /^(?:priv|runner)$/ ? 'yes' : 'no', "$name: new rights by executing a program";
	is $caps, 'none', "$name: no capabilities in effect" if $name ne 'priv';
	is $had, 'none', "$name: and none to take" if $name !~ /^(?:priv|local|runner)$/;
	unlike "$caps $had", qr/sys_(?:admin|ptrace|module|rawio|boot|time)|net_(?:admin|raw)|mknod|all/,
		"$name: none that is as good as all";
}
is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
done_testing;
