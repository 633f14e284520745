#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# An SMTP content filter as Postfix's FILTER_README sets it up and amavis is run: mail goes to the filter with its aliases
# unexpanded, comes back on a listener of its own with a dozen options, and goes out, filtered once and mapped once.
# Bounces and mail of local users go the same way, or around it where their service says so.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(free_port run_ok slurp spew wait_until);
use Test::More;

my ($back, $trusted) = (free_port(), free_port());
my $filter = Posthaste->recorder;
my $out    = Posthaste->recorder;
my $mta    = Posthaste->prepare(main => { relayhost => "[127.0.0.1]:$out->{port}", content_filter => "scan:[127.0.0.1]:$filter->{port}",
	receive_override_options => 'no_address_mappings', header_checks => 'regexp:$config_directory/checks', smtpd_data_restrictions => 'reject_unauth_pipelining',
	virtual_alias_maps => 'inline:{{list@y.test=one@y.test,two@y.test}}', always_bcc => 'bcc@y.test', mynetworks => '127.0.0.0/8',
	smtpd_recipient_restrictions => 'reject_non_fqdn_recipient', myorigin => 'origin.test' });
spew("$mta->{dir}/conf/checks", "/^Subject: (.*)/ PREPEND X-Checked: \$1\n/^X-Virus/ REJECT virus\n");
spew("$mta->{dir}/conf/master.cf", <<"EOF");
127.0.0.1:$mta->{port} inet n - n - - smtpd
127.0.0.1:$trusted inet n - n - - smtpd
    -o content_filter=
    -o receive_override_options=
pickup unix n - n 60 1 pickup
    -o content_filter=
    -o receive_override_options=no_header_body_checks
scan unix - - n - 2 smtp
    -o smtp_data_done_timeout=1200
    -o smtp_send_xforward_command=yes
    -o disable_dns_lookups=yes
    -o max_use=20
127.0.0.1:$back inet n - n - - smtpd
    -o content_filter=
    -o local_recipient_maps=
    -o relay_recipient_maps=
    -o smtpd_delay_reject=no
    -o smtpd_client_restrictions=permit_mynetworks,reject
    -o smtpd_helo_restrictions=
    -o smtpd_sender_restrictions=
    -o smtpd_recipient_restrictions=permit_mynetworks,reject
    -o smtpd_data_restrictions=reject_unauth_pipelining
    -o smtpd_end_of_data_restrictions=
    -o smtpd_restriction_classes=
    -o mynetworks=127.0.0.0/8
    -o smtpd_error_sleep_time=0
    -o smtpd_soft_error_limit=1001
    -o smtpd_hard_error_limit=1000
    -o smtpd_client_connection_count_limit=0
    -o smtpd_client_connection_rate_limit=0
    -o receive_override_options=no_header_body_checks,no_unknown_recipient_checks,no_milters
    -o local_header_rewrite_clients=
    -o syslog_name=postfix/10025
EOF
my ($rc, $text) = $mta->command('posthaste', 'check');
is $rc, 0, 'check' or diag $text;
$mta->launch;

sub send_one {
	my ($port, $to, $content) = @_;
	my $smtp = $mta->smtp($port);
	$smtp->ok('EHLO client.test');
	my ($id) = $smtp->mail('s@x.test', $to, $content) =~ /queued as (\S+)/;
	$smtp->quit;
	return $id;
}
# what a next hop has got since: [recipients, content]...
my %seen;
sub got {
	my ($hop) = @_;
	my $all = $hop->got =~ s/\r//gr;
	my $new = substr $all, $seen{$hop} || 0;
	$seen{$hop} = length $all;
	return map { my ($m) = $_; [ join(',', sort $m =~ /^RCPT TO:<([^>]*)>/mg), $m ] } split /(?=^MAIL FROM)/m, $new =~ s/^.*?(?=^MAIL FROM)//smr;
}

my $id = send_one($mta->{port}, 'list@y.test', "Subject: hello\nFrom: s\@x.test\nTo: list\@y.test\n\nbody\n");
ok $mta->wait_log(qr/$id: to=<list\@y\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:$filter->{port}, .*status=sent/), 'mail goes to the filter' or diag $mta->log_tail;
my ($at_filter) = got($filter);
is $at_filter->[0], 'list@y.test', '... with its aliases unexpanded, and no copy';
like $at_filter->[1], qr/^X-Checked: hello$/m, '... after the checks of headers';
is scalar(got($out)), 0, 'nothing went out';

# the filter gives it back
my $content = $at_filter->[1] =~ s/\A.*?^DATA\n//smr =~ s/^\.\n.*//smr;
$id = send_one($back, 'list@y.test', $content);
ok $mta->wait_log(qr/$id: removed/), 'it comes back, and leaves' or diag $mta->log_tail;
like $mta->log, qr/postfix\/10025\/smtpd\[\d+\]: $id: client=/, '... by the name of that listener';
my ($at_out) = got($out);
is $at_out->[0], 'bcc@y.test,one@y.test,two@y.test', '... its aliases expanded and copied once';
is scalar(() = $at_out->[1] =~ /^X-Checked:/mg), 1, '... checked once';
is scalar(got($filter)), 0, '... filtered once';

is send_one($mta->{port}, 'a@y.test', "Subject: bad\nX-Virus: yes\n\nx\n"), undef, 'what a check refuses is refused in front';
$id = send_one($back, 'a@y.test', "Subject: bad\nX-Virus: yes\n\nx\n");
ok $id && $mta->wait_log(qr/$id: removed/), '... and not behind the filter';
got($out);
my $smtp = $mta->smtp($mta->{port});
$smtp->ok('EHLO client.test');
$smtp->ok('MAIL FROM:<s@x.test>');
like $smtp->cmd('RCPT TO:<bare>'), qr/^504 /, 'a restriction in front';
$smtp->quit;
$smtp = $mta->smtp($back);
$smtp->ok('EHLO client.test');
$smtp->ok('MAIL FROM:<s@x.test>');
like $smtp->cmd('RCPT TO:<bare>'), qr/^250 /, '... is not one behind';
$smtp->quit;

# ways around the filter
$id = send_one($trusted, 'list@y.test', "Subject: trusted\n\nx\n");
ok $mta->wait_log(qr/$id: removed/), 'a listener without a filter';
($at_out) = got($out);
is $at_out->[0], 'bcc@y.test,one@y.test,two@y.test', '... maps by itself';
like $at_out->[1], qr/^X-Checked: trusted$/m, '... and checks';
($rc, $text) = run_ok('sh', '-c', 'printf "Subject: local\n\nx\n" | "$0" -C "$1" -f s@x.test c@y.test', Posthaste::prefix() . '/sbin/sendmail', "$mta->{dir}/conf");
is $rc, 0, 'sendmail' or diag $text;
ok $mta->wait_log(qr/to=<c\@y\.test>, relay=127\.0\.0\.1\[127\.0\.0\.1\]:$out->{port}.*status=sent/), 'mail of local users, whose service has none' or diag $mta->log_tail;
my ($local) = grep { $_->[0] =~ /c\@y/ } got($out);
unlike $local->[1], qr/^X-Checked:/m, '... without checks';

# a FILTER action of a check
spew("$mta->{dir}/conf/checks", "/^Subject: aside/ FILTER scan:[127.0.0.1]:$filter->{port}\n");
is(($mta->command('posthaste', 'reload'))[0], 0, 'reload');
got($filter);
ok wait_until(sub { $id = send_one($trusted, 'one@y.test', "Subject: aside\n\nx\n"); $mta->wait_log(qr/$id: removed/, 5); grep { $_->[0] =~ /one\@y/ } got($filter) }, 30),
	'FILTER sends to the filter where the service has none' or diag $mta->log_tail;
is $mta->stop, 0, 'stop';
is $mta->crashes, '', 'nothing crashed';
done_testing;
