# SPDX-License-Identifier: GPL-3.0-or-later
# Certificates of tests, made with openssl: authorities, and what they sign. Keys are P-256.
#
#   my $certs = Certs->new($dir);
#   $certs->ca('ca');                                          # $dir/ca.pem, $dir/ca.key
#   $certs->cert('good', ca => 'ca', names => ['mx.test']);    # $dir/good.pem (key, certificate)
package Certs;
use strict;
use warnings;
use Posthaste qw(slurp spew run_ok);

sub new {
	my ($class, $dir) = @_;
	mkdir $dir;
	return bless { dir => $dir, serial => 0 }, $class;
}

sub openssl {
	my ($self, @args) = @_;
	my ($rc, $out) = run_ok('openssl', @args);
	die "openssl @args: $out\n" if $rc;
	return $out;
}

sub key {
	my ($self, $name) = @_;
	my $file = "$self->{dir}/$name.key";
	$self->openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', $file) unless -e $file;
	return $file;
}

# Signed by itself, or by `ca`.
sub ca {
	my ($self, $name, $ca) = @_;
	$self->issue($name, $ca, "Test $name", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n", 0, 30);
	return;
}

# names: DNS names, or "IP:address"; cn: the subject's common name; from, to: days from today; chain: further files for the .pem.
sub cert {
	my ($self, $name, %opt) = @_;
	my $names = join ',', map { /:/ ? $_ : "DNS:$_" } @{ $opt{names} || [] };
	$self->issue($name, $opt{ca}, $opt{cn} // $name, ($names ne '' ? "subjectAltName=$names\n" : '') . "basicConstraints=CA:FALSE\n",
		$opt{from} // -1, $opt{to} // 30);
	my @chain = map { slurp("$self->{dir}/$_.crt") } @{ $opt{chain} || [] };
	spew("$self->{dir}/$name.pem", join '', slurp("$self->{dir}/$name.key"), slurp("$self->{dir}/$name.crt"), @chain);
	return;
}

sub issue {
	my ($self, $name, $ca, $cn, $extensions, $from, $to) = @_;
	my $dir = $self->{dir};
	my $key = $self->key($name);
	my $signer = $ca // $name;
	my $days = sub { my @t = gmtime(time + $_[0] * 86400); sprintf '%04d%02d%02d%02d%02d%02dZ', $t[5] + 1900, $t[4] + 1, @t[3, 2, 1, 0] };
	# openssl ca is what takes any dates
	spew("$dir/$name.cnf", <<"EOT");
[ca]
default_ca = it
[it]
database = $dir/$name.db
new_certs_dir = $dir
serial = $dir/$name.serial
default_md = sha256
policy = any
unique_subject = no
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
$extensions
EOT
	spew("$dir/$name.db", '');
	spew("$dir/$name.serial", sprintf "%08X\n", ++$self->{serial});
	$self->openssl('req', '-new', '-key', $key, '-subj', "/CN=$cn", '-out', "$dir/$name.csr");
	$self->openssl('ca', '-batch', '-notext', '-config', "$dir/$name.cnf", '-in', "$dir/$name.csr", '-out', "$dir/$name.crt",
		'-keyfile', "$dir/$signer.key", '-startdate', $days->($from), '-enddate', $days->($to),
		$ca ? ('-cert', "$dir/$ca.crt") : '-selfsign');
	return;
}

# "AB:CD:..." of the certificate, or of its public key.
sub fingerprint {
	my ($self, $name, $of_key) = @_;
	my $dir = $self->{dir};
	return $self->openssl('x509', '-in', "$dir/$name.crt", '-noout', '-fingerprint', '-sha256') =~ s/.*=(\S+)\s*\z/$1/sr unless $of_key;
	$self->openssl('pkey', '-in', "$dir/$name.key", '-pubout', '-outform', 'DER', '-out', "$dir/$name.spki");
	my ($hex) = $self->openssl('dgst', '-sha256', "$dir/$name.spki") =~ /([0-9a-f]{64})/;
	return join ':', map { uc } $hex =~ /../g;
}

1;
