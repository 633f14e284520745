#!/usr/bin/perl
# SPDX-License-Identifier: GPL-3.0-or-later
# Remote tables in real servers (lib/Servers.pm): memcached, Redis, PostgreSQL, MariaDB and OpenLDAP.
# postmap asks them, mail goes where they say, keys cannot break out of a query, and what is down defers mail until
# it is back.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Posthaste qw(slurp spew wait_until free_port);
use Certs;
use Servers;
use Test::More;

my $mta = Posthaste->prepare;
my $dir = $mta->{dir};
my %types = map { $_ => 1 } split ' ', ($mta->command('postconf', '-m'))[1];
my %kinds = (memcached => 'memcache', redis => 'redis', postgres => 'pgsql', mariadb => 'mysql', slapd => 'ldap');
my %server;
my $certs = Certs->new("$dir/certs");
$certs->ca($_) for qw(ca other);
$certs->cert('good', ca => 'ca', names => ['IP:127.0.0.1']);
chmod 0755, $dir, "$dir/certs";
for my $kind (sort keys %kinds) {
	my $s = $types{ $kinds{$kind} } && Servers->new($kind, $dir) or diag("no $kind here"), next;
	$server{$kind} = $s;
	$s->{ldif} = join "\n\n", "dn: dc=test\nobjectClass: dcObject\nobjectClass: organization\no: test\ndc: test",
		"dn: cn=reader,dc=test\nobjectClass: person\ncn: reader\nsn: r\nuserPassword: sesame",
		(map { "dn: uid=$_->[0],dc=test\nobjectClass: inetOrgPerson\nuid: $_->[0]\ncn: x\nsn: x\n" . join "\n",
			map { "mail: $_" } @{ $_->[1] } } [ 'one', ['one@other.test'] ], [ 'two', ['two@other.test'] ],
			[ 'a\\2Ab', ['star@other.test'] ]),
		"dn: cn=team,dc=test\nobjectClass: groupOfNames\ncn: team\nmember: uid=one,dc=test\nmember: uid=two,dc=test\n"
			. "member: uid=gone,dc=test", "dn: cn=loop,dc=test\nobjectClass: groupOfNames\ncn: loop\nmember: cn=loop,dc=test\n"
		if $kind eq 'slapd';
	$s->{cert} = "$dir/certs/good" if $kind eq 'slapd';
	$s->begin;
}
plan skip_all => 'no server is installed' if !%server;
$_->start for values %server;

sub table {
	my ($name, $type, %p) = @_;
	spew("$dir/$name.cf", join '', map { "$_ = $p{$_}\n" } sort keys %p);
	return "$type:$dir/$name.cf";
}

sub query {
	my ($key, $table) = @_;
	my ($rc, $out) = $mta->command('postmap', '-q', $key, $table);
	chomp $out;
	return "$rc $out";
}

# what asks with these tables must find just that, and no key may mean more than itself
my @tricks = ("o'hara\@x.test", "o\\'hara\@x.test", "' or 1=1 -- \@x.test", "\\' or 1=1 -- \@x.test", '*@x.test', ')(uid=*@x.test',
	"\$1 ; drop table alias\@x.test");
my (%alias, %main);

if (my $s = $server{memcached}) {
	my $t = $alias{memcached} = table('memcache', 'memcache', memcache => "inet:127.0.0.1:$s->{port}", key_format => 'alias:%s');
	$s->set('alias:user@memcached.test', 'a@other.test');
	is query('user@memcached.test', $t), '0 a@other.test', 'memcache';
	is query('User@Memcached.Test', $t), '0 a@other.test', 'memcache: keys are folded';
	is query('none@memcached.test', $t), '1 ', 'memcache: none';
	is query("user\@memcached.test x", $t), '1 ', 'memcache: a key with a blank is none';
	if ($types{sqlite} && `sqlite3 --version 2>/dev/null`) {
		mkdir "$dir/db";
		system 'sqlite3', "$dir/db/b.db", "create table t (k text, v text); insert into t values ('old\@x.test', 'of\@backup.test')";
		my $db = table('backup', 'sqlite', dbpath => "$dir/db/b.db", query => "select v from t where k = '%s'");
		my %both = (memcache => "inet:127.0.0.1:$s->{port}", key_format => 'b:%s', backup => "proxy:$db");
		my $b = table('both', 'memcache', %both);
		is query('old@x.test', $b), '0 of@backup.test', 'memcache: what only its backup has';
		system 'sqlite3', "$dir/db/b.db", 'delete from t';
		is query('old@x.test', $b), '0 of@backup.test', 'memcache: and has itself from then on';
		is query('none@x.test', $b), '1 ', 'memcache: what neither has';
		system 'sqlite3', "$dir/db/b.db", "insert into t values ('new\@x.test', 'down\@backup.test')";
		is query('new@x.test', table('down', 'memcache', %both, memcache => 'inet:127.0.0.1:' . free_port())),
			'0 down@backup.test', 'memcache: while it is down the backup answers';
		unlink "$dir/db/b.db";
		like query('other@x.test', $b), qr/^1 .*lookup error: backup: /s, 'memcache: a backup that cannot be asked';
		Posthaste::spew("$dir/kept", "kept\@x.test of\@file.test\n");
		my $file = table('file', 'memcache', %both, backup => "texthash:$dir/kept");
		is query('kept@x.test', $file), '0 of@file.test', 'memcache: a backup that is a file';
		is query('none@x.test', $file), '1 ', 'memcache: what the file does not have';
		Posthaste::spew("$dir/kept", '');
		is query('kept@x.test', $file), '0 of@file.test', 'memcache: and has itself from then on';
	}
}
if (my $s = $server{redis}) {
	my $t = $alias{redis} = table('redis', 'redis', server => "inet:127.0.0.1:$s->{port}", password => 'open sesame',
		database => 2, key_format => 'alias:%u:%d');
	$s->set('alias:user:redis.test', 'b@other.test');
	is query('user@redis.test', $t), '0 b@other.test', 'redis';
	is query('none@redis.test', $t), '1 ', 'redis: none';
	is query('user', $t), '1 ', 'redis: a key without domain has nothing for %d';
	like query('user@redis.test', table('redisbad', 'redis', server => "inet:127.0.0.1:$s->{port}", password => 'x')),
		qr/^1 .*WRONGPASS/s, 'redis: a wrong password';
}
my $schema = q{create table alias (a varchar(100), goto varchar(100)); insert into alias values
	('user@KIND.test', 'c@KIND-next.test'), ('many@KIND.test', 'd@KIND-next.test'), ('many@KIND.test', 'e@KIND-next.test'),
	('o''hara@x.test', 'quoted@other.test');};
for my $kind (qw(postgres mariadb)) {
	my $s = $server{$kind} or next;
	$s->sql('create database mail; create user mail@127.0.0.1 identified by "open sesame"; grant all on mail.* to mail@127.0.0.1')
		if $kind eq 'mariadb';
	$s->sql(($kind eq 'mariadb' ? 'use mail; ' : '') . $schema =~ s/KIND/$kind/gr);
	my $t = $alias{$kind} = table($kind, $kinds{$kind}, user => 'mail', password => 'open sesame', retry_interval => 0,
		hosts => '127.0.0.1:' . free_port() . " 127.0.0.1:$s->{port}", dbname => $kind eq 'mariadb' ? 'mail' : 'postgres',
		query => "select goto from alias where a = '%s' order by goto");
	is query("user\@$kind.test", $t), "0 c\@$kind-next.test", "$kind: of two servers one answers";
	is query("many\@$kind.test", $t), "0 d\@$kind-next.test,e\@$kind-next.test", "$kind: rows";
	is query("none\@$kind.test", $t), '1 ', "$kind: none";
	is query($_, $t), $_ eq $tricks[0] ? '0 quoted@other.test' : '1 ', "$kind: $_" for @tricks;
	like query('x', table("bad$kind", $kinds{$kind}, user => 'mail', password => 'wrong', hosts => "127.0.0.1:$s->{port}",
		dbname => 'mail', query => 'select 1')), qr/^1 .*lookup error: .*(?:password|denied)/si, "$kind: a wrong password";
	like query('x', table("syntax$kind", $kinds{$kind}, user => 'mail', password => 'open sesame', hosts => "127.0.0.1:$s->{port}",
		dbname => $kind eq 'mariadb' ? 'mail' : 'postgres', query => 'selekt 1')), qr/^1 .*syntax/si, "$kind: a wrong query";
}
if (my $s = $server{slapd}) {
	my %p = (server_host => "ldap://127.0.0.1:$s->{port}", search_base => 'dc=test', bind_dn => 'cn=reader,dc=test',
		bind_pw => 'sesame');
	my %sasl = (%p, bind => 'sasl', bind_dn => 'reader', query_filter => 'uid=%u', result_attribute => 'mail');
	my %tls = (start_tls => 'yes', tls_require_cert => 'yes');
	is query('one@x.test', table("sasl$_", 'ldap', %sasl, sasl_mechs => $_)), '0 one@other.test', "ldap: SASL, $_"
		for qw(SCRAM-SHA-256 DIGEST-MD5);
	like query('one@x.test', table('saslbad', 'ldap', %sasl, sasl_mechs => 'DIGEST-MD5', bind_pw => 'x')),
		qr/^1 .*Invalid credentials/s, 'ldap: SASL, a wrong password';
	like query('one@x.test', table('saslssf', 'ldap', %sasl, sasl_mechs => 'SCRAM-SHA-256', sasl_minssf => 200)),
		qr/^1 .*ldap:/s, 'ldap: SASL, a mechanism that is too weak';
	is query('one@x.test', table('tls', 'ldap', %sasl, %tls, bind => 'yes', bind_dn => $p{bind_dn}, tls_ca_cert_file => "$dir/certs/ca.crt")),
		'0 one@other.test', 'ldap: TLS';
	like query('one@x.test', table('tlsbad', 'ldap', %sasl, %tls, tls_ca_cert_file => "$dir/certs/other.crt")),
		qr/^1 .*(?:Connect error|TLS)/s, 'ldap: TLS, an authority that did not sign';
	my $t = $alias{slapd} = table('ldap', 'ldap', %p, %tls, tls_ca_cert_file => "$dir/certs/ca.crt", bind => 'sasl', bind_dn => 'reader',
		sasl_mechs => 'SCRAM-SHA-256', query_filter => '(&(|(uid=%u)(cn=%u))(|(objectClass=groupOfNames)(sn=x)))',
		result_attribute => 'mail', special_result_attribute => 'member', domain => 'slapd.test, x.test');
	is query('one@slapd.test', $t), '0 one@other.test', 'ldap';
	is query('team@slapd.test', $t), '0 one@other.test,two@other.test', 'ldap: a group, with a member that does not exist';
	is query('none@slapd.test', $t), '1 ', 'ldap: none';
	is query('one', $t), '1 ', 'ldap: outside of domain';
	is query('one@elsewhere.test', $t), '1 ', 'ldap: of another domain';
	is query('a*b@slapd.test', $t), '0 star@other.test', 'ldap: a star is a star';
	is query($_, $t), '1 ', "ldap: $_" for grep { !/%/ } @tricks;
	like query('loop@slapd.test', table('loop', 'ldap', %p, query_filter => 'cn=%u', special_result_attribute => 'member',
		recursion_limit => 20)), qr/^1 .*recursion_limit/s, 'ldap: an entry that points to itself';
	like query('one@slapd.test', table('badldap', 'ldap', %p, bind_pw => 'x', query_filter => 'uid=%u')),
		qr/^1 .*Invalid credentials/s, 'ldap: a wrong password';
}

# mail
my $next = Posthaste->recorder;
my @kinds = sort keys %server;
$mta->configure(relay_domains => join(' ', map { "$_.test" } @kinds), relay_recipient_maps => '',
	virtual_alias_maps => join(', ', map { $alias{$_} } @kinds), relayhost => "[127.0.0.1]:$next->{port}",
	lookup_timeout => '8s', mynetworks => '192.0.2.1');
$mta->launch;
my %user = (memcached => 'user', redis => 'user', postgres => 'user', mariadb => 'user', slapd => 'team');
my %goes = (memcached => 'a@other.test', redis => 'b@other.test', postgres => 'c@postgres-next.test',
	mariadb => 'c@mariadb-next.test', slapd => 'two@other.test');

sub mail {
	my ($kind) = @_;
	my $c = $mta->smtp;
	$c->cmd('EHLO client.test');
	$c->cmd('MAIL FROM:<sender@elsewhere.test>');
	my $reply = $c->cmd("RCPT TO:<$user{$kind}\@$kind.test>");
	$reply = $c->cmd("Subject: x\r\n\r\ntext\r\n.") if $reply =~ /^250/ && $c->cmd('DATA') =~ /^354/;
	$c->quit;
	return $reply;
}

for my $kind (@kinds) {
	like mail($kind), qr/^250/, "$kind: mail is accepted";
	ok wait_until(sub { $next->got =~ /RCPT TO:<\Q$goes{$kind}\E>/ }, 20), "$kind: and goes where it says";
}
$_->stop for values %server;
like mail($_), qr/^451 4\.3\.0 .*(?:Temporary lookup failure)/, "$_: down, so mail is deferred" for @kinds;
$_->start for values %server;
if ($server{memcached}) { $server{memcached}->set('alias:user@memcached.test', 'a@other.test') } # it forgets
if ($server{redis}) { $server{redis}->set('alias:user:redis.test', 'b@other.test') }
for my $kind (@kinds) {
	ok wait_until(sub { mail($kind) =~ /^250/ }, 20), "$kind: back, and mail is accepted again";
}
is $mta->stop, 0, 'stops';
is $mta->crashes, '', 'nothing crashed';
is $mta->refusals, 0, 'no system call was refused';
$next->stop;
$_->stop for values %server;
done_testing;
