# SPDX-License-Identifier: GPL-3.0-or-later
# Mutants: the product with one of its syncs taken out. Each call of fsync() or fdatasync() in the
# folders below is one; so is each that is made twice on purpose, done once. A mutant is one object
# compiled anew, and the programs that hold it linked anew, in a folder of its own below the build
# folder. Nothing else is touched. Called by the campaign of power cuts and by t/crash/mutants.
#
#   for my $m (Mutants->all) { $m->build('t/crash/spool_cut', 'workers/rewrite/rewrite') ... }
#   $m->name; $m->{dir}; $m->program('t/crash/spool_cut');
package Mutants;
use strict;
use warnings;
use Carp qw(croak);
use Fcntl qw(:flock);
use File::Basename qw(basename);
use File::Path qw(make_path);
use Posthaste qw(slurp spew);

my @folders = qw(workers/spool workers/local daemon);
# what is done twice, and once in the mutant
my @once = (
	[ 'workers/spool/commit.c',  qr/written_end \? (2) : 1/ ],
	[ 'workers/spool/journal.c', qr/k < (2); k\+\+/ ],
	[ 'workers/spool/state.c',   qr/i < (2) && err == 0; i\+\+/ ],
	[ 'workers/spool/doubt.c',   qr/i < (2) && err == 0; i\+\+/ ],
);
# Those without which nothing is lost on any file system, and what they are there for.
my %needless = (
	'workers/spool/journal_file.c fsync(f->fds[0])' => 'the first sync of its outcomes covers head and size of the ' .
		'file, too; done ahead, that one is quick',
	'workers/spool/segment.c fsync(s->fd)' => 'the first commit covers head and size of the file, too, and a ' .
		'file with another head is left alone; done ahead, the commit is quick',
	'workers/spool/segment.c fsync(d->spare)' => 'a file that kept its name as a spare beside its new one is not ' .
		'taken again: its head shows the other number',
);
# Those that these power cuts cannot show: what they are for takes more than a power cut.
my %elsewhere = (
	'daemon/postmulti_life.c fsync(fd)' => 'a power cut while an instance is made by hand; no mail has been there',
	'daemon/qclock_file.c fdatasync(f->fd)' => 'a jump of the wall clock, a power cut and another boot',
	(map { ("workers/spool/$_ the second sync" => 'a file system that shuts down while a sync is under way, at the ' .
		'right moment of it; as in commit.c, whose mutant is caught') } qw(doubt.c journal.c state.c)),
	'workers/spool/quarantine.c fsync(to)' => 'damage of the disk before the power cut; no mail is lost with it',
	'workers/spool/quarantine.c fsync(d->corrupt)' => 'damage of the disk before the power cut; no mail is lost with it',
	'workers/spool/warrant.c fsync(fd)' => 'a worker that was taken over: outcomes from before the cut count ' .
		'without warrants then; no mail is lost with it',
	'workers/local/mbox.c fsync(m->fd) again' => 'an error while a message is appended, and then a power cut: a piece ' .
		'of a message may be left that comes again',
	'workers/spool/scan_mend.c fdatasync(fd)' => 'damage of an index before the power cut',
);

# All of them, in the order of the source: { file, line, call, text }.
sub all {
	my ($class) = @_;
	my @found;
	for my $file (sort map { glob Posthaste::top() . "/$_/*.c" } @folders) {
		my $text = slurp($file);
		my $name = substr $file, 1 + length Posthaste::top();
		push @found, map { { %$_, file => $name } } calls($text), twice($name, $text);
	}
	return map { bless $_, $class } @found;
}

sub line_of { my ($text, $pos) = @_; return 1 + (substr($text, 0, $pos) =~ tr/\n//) }

# Calls of the two, outside comments; each argument is evaluated still.
sub calls {
	my ($text) = @_;
	my ($bare, @found, %seen) = ($text);
	$bare =~ s{(/\*.*?\*/|//[^\n]*)}{ $1 =~ s/[^\n]/ /gr }gse;
	while ($bare =~ /\b(f(?:data)?sync)(\((?:[^()]++|(?2))*\))/g) {
		my ($from, $to) = ($-[0], $+[0]);
		push @found, { line => line_of($text, $from), call => "$1$2", again => $seen{"$1$2"}++ ? ' again' : '',
			text => substr($text, 0, $from) . "(0 & $2)" . substr($text, $to) };
	}
	return @found;
}

sub twice {
	my ($name, $text) = @_;
	my @found;
	for my $row (grep { $_->[0] eq $name } @once) {
		$text =~ $row->[1] or croak "$name: what is done twice has another shape now";
		push @found, { line => line_of($text, $-[1]), call => 'the second sync',
			text => substr($text, 0, $-[1]) . '1' . substr($text, $+[1]) };
	}
	return @found;
}

sub name { my ($self) = @_; return "$self->{file}:$self->{line} $self->{call}" }

# What the two tables call it: "again" is every other call with the same words in that file.
sub key { my ($self) = @_; return "$self->{file} $self->{call}" . ($self->{again} // '') }

# Why nothing is lost without it; undef when something is.
sub needless { my ($self) = @_; return $needless{ $self->key } }

# What it takes to see it; undef when power cuts alone show it.
sub elsewhere { my ($self) = @_; return $elsewhere{ $self->key } }

sub id {
	my ($self) = @_;
	return join '-', map { s/\W+/_/gr } $self->{file} =~ s/\.c$//r, $self->{line}, $self->{call} =~ s/\W+$//r;
}

# What make would do, as it says in a dry run. Even that makes the Makefile anew: one at a time, once.
sub dry_run {
	my $build = Posthaste::build_dir();
	my $file  = "$build/mutants/commands";
	make_path("$build/mutants");
	open my $lock, '>', "$file.lock" or croak "$file.lock: $!";
	flock $lock, LOCK_EX or croak "$file.lock: $!";
	if (!-s $file || (stat "$build/Makefile")[9] > (stat $file)[9]) {
		my $text = `make -C $build -nB all check_programs 2>&1`;
		spew($file, $text);
	}
	return slurp($file) =~ s/\\\n//gr;
}

# The shell command that makes $what.
my $said;
sub command_for {
	my ($what) = @_;
	$said //= dry_run();
	my ($cmd) = $said =~ /(?<![^;\s])([\w.\/-]*(?:gcc|clang|cc)[\w.-]* [^\n;]* -o \Q$what\E [^\n&]*)/;
	return $cmd || croak "make does not say how it makes $what";
}

sub shell {
	my ($cmd) = @_;
	my $out = `cd ${\ Posthaste::build_dir() } && { $cmd ; } 2>&1`;
	croak "$cmd\n$out" if $?;
	return;
}

# The object of a source file: libraries with flags of their own prefix it.
sub object {
	my ($self) = @_;
	return $self->{file} =~ s/\.c$/.o/r;
}

# Compile, and link the programs (paths below the build folder); all others of the daemon_directory
# are linked to. Returns the folder.
sub build {
	my ($self, @programs) = @_;
	my $dir = Posthaste::build_dir() . '/mutants/' . $self->id;
	make_path("$dir/libexec");
	$self->{dir} = $dir;
	spew("$dir/" . basename($self->{file}), $self->{text});
	my $object = $self->object;
	my $cmd = command_for($object);
	$cmd =~ s/-MT \S+ -MD -MP -MF \S+//;
	$cmd =~ s{-c -o \Q$object\E.*}{-c -o $dir/mutant.o $dir/${\ basename($self->{file}) }};
	shell($cmd);
	for my $program (@programs) {
		my $link = command_for($program);
		$link =~ s{ -o \Q$program\E }{ -o ${\ $self->program($program) } };
		# before the library, whose own copy is not asked for any more
		$link =~ s{ \Q$object\E }{ $dir/mutant.o } or $link =~ s{ (\S+\.a)}{ $dir/mutant.o $1};
		shell($link);
	}
	for my $other (glob Posthaste::prefix() . '/libexec/posthaste/*') {
		my $name = "$dir/libexec/" . basename($other);
		symlink $other, $name unless -e $name;
	}
	return $dir;
}

sub program { my ($self, $program) = @_; return "$self->{dir}/libexec/" . basename($program) }

1;
